"""Whether labelling helped: measures, figures, and the report."""
