"""Learning of a student from its own rollouts, and how arrays are laid out over devices."""
