"""The formats on disk: D4RL HDF5, Minari folders, npz."""
