"""Training, offline and online: the loops, the switch between them, and what watches over them."""
