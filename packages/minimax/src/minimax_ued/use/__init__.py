"""Using what was trained: a run from its folder, a student without JAX."""
