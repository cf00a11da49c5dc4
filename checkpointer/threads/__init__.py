"""Threads and their runs: ownership, loading, pending writes, history, maintenance."""
