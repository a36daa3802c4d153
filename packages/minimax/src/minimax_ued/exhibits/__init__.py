"""Pictures of levels and of episodes."""
