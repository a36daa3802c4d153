"""Measuring students on levels that they did not train on."""
