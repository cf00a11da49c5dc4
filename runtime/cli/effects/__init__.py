"""`runtime effects`: what is to happen outside of the database, and what became of it."""
