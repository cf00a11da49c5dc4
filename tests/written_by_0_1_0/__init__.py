"""Threads that 0.1.0 wrote, resumed by the current code."""
