"""Back ends that solve many transport problems; `otr.optimal_transport.sinkhorn` chooses among them."""
