"""Levels with names and levels in files: the test mazes, the held-out sets, and the user's own."""
