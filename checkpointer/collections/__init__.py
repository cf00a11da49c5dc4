"""Search by meaning: tables with embeddings, read in a step's snapshot."""
