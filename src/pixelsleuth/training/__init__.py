"""Training: presets, deterministic batches, the stages, and what is fitted after them."""
