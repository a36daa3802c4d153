"""What the commands take."""
