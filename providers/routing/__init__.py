"""Which deployment of a route is asked next, and what became of those asked before."""
