"""Killing runs, and proving that resuming them loses nothing and doubles nothing."""
