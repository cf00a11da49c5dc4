"""Small graphs, one kind a module, for the tests of the command line."""
