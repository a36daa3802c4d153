"""Back ends that solve many transport problems; `otr.sinkhorn` chooses among them."""
