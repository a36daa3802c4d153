"""The learners, one file each; `policy_finetune.learners.registry` makes the one that a configuration names."""
