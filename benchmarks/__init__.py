"""Benchmarks: what the packages claim, measured next to the peers. See README.md."""
