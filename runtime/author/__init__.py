"""What graph authors use inside nodes."""
