"""`runtime metrics`."""
