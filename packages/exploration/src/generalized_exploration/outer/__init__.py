"""A generator that proposes what to learn from."""
