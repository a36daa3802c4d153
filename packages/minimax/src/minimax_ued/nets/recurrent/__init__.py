"""Recurrent cores: LSTM, GRU and S5 over sequences with resets."""
