"""SFT, reward model, PPO and best-of-N, small and exact (Kirk et al. 2024; Ouyang et al. 2022)."""
