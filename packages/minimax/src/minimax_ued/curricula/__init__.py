"""Where the levels of a cycle come from, and what keeps and refreshes them."""
