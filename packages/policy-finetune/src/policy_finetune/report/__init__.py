"""What commands show at their end: tables, figures, warnings."""
