"""Environments: gymnasium's in lock-step, policies that act in them, evaluations, references."""
