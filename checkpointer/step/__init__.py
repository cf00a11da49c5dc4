"""One super-step: its tasks, its snapshot, what they read and what they want written."""
