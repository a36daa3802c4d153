"""Opponent shaping: agents that learn how other agents learn, and steer it."""
