"""`runtime run` and `runtime resume`."""
