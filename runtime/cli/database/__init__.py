"""`runtime db`."""
