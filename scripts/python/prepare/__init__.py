"""Official data layouts, image folders and arrays to the one HDF5 layout the harness reads."""
