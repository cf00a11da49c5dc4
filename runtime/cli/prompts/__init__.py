"""`runtime prompts`."""
