"""Many agents in one program: their layout on the device, and the numbers by which they may differ."""
