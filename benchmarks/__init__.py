"""Benchmarks: what the packages claim, measured beside the peers. See README.md."""
