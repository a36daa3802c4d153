"""Explorers: actors and critics trained in imagination, all agents in one program, and what they are paid for."""
