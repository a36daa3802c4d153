"""Did fine-tuning remove a capability, or only wrap it? (Jain et al. 2024)."""
