"""Benchmarks of llm-probes: one module for each method, and speed."""
