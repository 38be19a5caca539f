"""What every room needs and no room owns: errors, settings, draws, files, provenance."""
