"""Many inputs as one store: how published data sets are laid out, their preparation, and the HDF5 files it writes."""
