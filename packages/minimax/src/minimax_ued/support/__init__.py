"""What has no equation of its own: registries of names, counters, and when a buffer is ready."""
