"""Read volumes: the file formats of scans, and the axial slices that are cut from them."""
