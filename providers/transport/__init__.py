"""One request to one deployment: clients, the vendors' dialects, streams."""
