"""What batches are drawn from: packed datasets, the replay policies, priorities."""
