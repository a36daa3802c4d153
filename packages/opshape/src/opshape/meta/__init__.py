"""Meta-optimisers: how a shaper is improved over trials."""
