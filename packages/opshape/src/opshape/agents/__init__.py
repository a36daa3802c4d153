"""Players: shapers, learners that are shaped, and fixed strategies."""
