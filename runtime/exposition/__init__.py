"""What was measured, for Prometheus: its text format, and a server that gives it away."""
