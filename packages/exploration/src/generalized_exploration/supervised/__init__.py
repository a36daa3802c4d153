"""Examples of a data set, chosen batch by batch."""
