"""Files on the disk: networks, activations, permutations and data sets in HDF5 (docs/format.md)."""
