"""`runtime models`."""
