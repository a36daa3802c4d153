"""Data: windows gathered by index, and unlabelled motion made by policies of our own."""
