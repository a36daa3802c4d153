"""Bodies: MuJoCo models with named slices of their observations, simulated in batches."""
