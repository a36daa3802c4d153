"""Sweeps: complete configurations in one file, run where and as often as is needed."""
