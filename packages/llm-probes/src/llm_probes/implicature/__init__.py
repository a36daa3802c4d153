"""Implicature resolution: does a model prefer the yes or the no that a response only implies? (Ruis et al. 2023)."""
