"""The world model: an RSSM with categorical latents, its heads, and an ensemble that predicts the next latent."""
