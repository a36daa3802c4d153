"""Settings that make up the configuration of a run, `minimax_ued.config.TrainConfig`."""
