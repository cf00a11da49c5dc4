"""Texts with embeddings: collections and how they are filled, search by meaning, what of a search is a fact."""
