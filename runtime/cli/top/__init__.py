"""`runtime top`."""
