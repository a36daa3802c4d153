"""Labelling whole datasets: chunks on disk, the written result, and what it says of itself."""
