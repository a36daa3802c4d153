"""What is read and computed of runs that are over: collapse, published curves, metrics files."""
