"""Environments: MiniGrid's rooms on the device, and any gymnasium environment by its id."""
