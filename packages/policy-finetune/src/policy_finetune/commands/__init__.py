"""What `policy_finetune.cli` calls."""
