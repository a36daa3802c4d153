"""Zero-shot tasks: label the replay, learn to act for the labels in the frozen model, and try it in the environment."""
