"""Studies: which runs, running them, and what they say."""
