"""Which items are drawn, given their scores."""
