"""`runtime collection`: texts with embeddings, from files and from dumps of other stores."""
