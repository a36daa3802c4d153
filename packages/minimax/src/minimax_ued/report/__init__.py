"""The result of an evaluation: scorecard, tables, figures."""
