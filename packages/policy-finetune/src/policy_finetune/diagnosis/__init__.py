"""The command `diagnose`: what a dataset and a policy are like, and which settings follow."""
