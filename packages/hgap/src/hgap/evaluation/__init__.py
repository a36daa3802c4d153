"""Evaluation: episodes in the true simulator, next to rivals, and what is written about them."""
