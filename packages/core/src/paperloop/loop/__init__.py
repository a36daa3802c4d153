"""The loop, and what it leaves behind: run folder, checkpoints, metrics, provenance."""
