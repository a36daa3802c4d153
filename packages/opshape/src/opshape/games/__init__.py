"""Games of two players: iterated matrix games, their exact infinite form, CoinGame and InTheMatrix."""
