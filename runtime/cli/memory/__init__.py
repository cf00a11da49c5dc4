"""`runtime memory`: what threads know of each other's."""
