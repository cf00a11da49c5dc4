"""`runtime import`."""
