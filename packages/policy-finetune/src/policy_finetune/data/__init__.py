"""Datasets and policies in files: making them, reading them, and checking them against an environment."""
