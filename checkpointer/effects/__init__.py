"""Effects: what a commit has decided is to happen outside of it, and the queue that it is handed to."""
