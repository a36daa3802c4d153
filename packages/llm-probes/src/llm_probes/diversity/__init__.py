"""How different a policy's outputs are, for one input and across inputs (Kirk et al. 2024)."""
