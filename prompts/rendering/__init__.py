"""From a version and variables to messages."""
