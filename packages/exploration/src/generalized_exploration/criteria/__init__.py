"""How much an item is worth training on."""
