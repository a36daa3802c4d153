"""What the commands of `otr` do, one file each."""
