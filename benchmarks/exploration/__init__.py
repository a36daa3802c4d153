"""Benchmarks of generalized-exploration."""
