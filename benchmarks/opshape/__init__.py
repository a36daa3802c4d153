"""Benchmarks of opshape: claims, parity, speed."""
