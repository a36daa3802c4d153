"""Hugging Face models: loading, scoring of answers, generation."""
