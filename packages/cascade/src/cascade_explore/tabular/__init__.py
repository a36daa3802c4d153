"""The method in tables, where everything can be counted: a binary tree in closed form, and rooms with planning."""
