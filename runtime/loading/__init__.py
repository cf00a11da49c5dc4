"""Finding graphs by name."""
