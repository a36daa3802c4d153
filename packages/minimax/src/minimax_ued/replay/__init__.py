"""The level buffer of prioritised level replay: its scores, its draws, its copies."""
