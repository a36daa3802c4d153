"""Planning by sampling codes: objectives on trajectories, sampling, search."""
