"""Rivals: planners that own the true simulator, behaviour cloning, random codes."""
