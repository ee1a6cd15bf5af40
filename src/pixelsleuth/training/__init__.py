"""Teaching: presets, batches that depend on seed and step alone, and the two stages."""
