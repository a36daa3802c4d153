"""Whole trials in one program."""
