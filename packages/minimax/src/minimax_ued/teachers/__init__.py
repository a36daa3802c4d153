"""Teachers that build levels: networks, learning, and what they are rewarded by."""
