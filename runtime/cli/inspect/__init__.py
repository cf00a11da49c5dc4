"""`runtime threads`, `history`, `show`, `graph`."""
