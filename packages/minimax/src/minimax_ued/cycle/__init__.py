"""The training cycle that all methods share: its parts, its state, its metrics."""
