"""Measuring shapers: curves over a trial, tables, tournaments, pictures."""
