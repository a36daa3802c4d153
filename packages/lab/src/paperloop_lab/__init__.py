"""Statistics over seeds, figures, reports, sweeps and metric sinks."""
