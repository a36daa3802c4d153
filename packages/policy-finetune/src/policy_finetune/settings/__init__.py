"""Settings that make up the configurations of `policy_finetune.config`."""
