"""Benchmarks of hgap."""
