"""Fails to import, on its third line."""

from tests.runtime.cli.graphs_for_tests.no_such_thing_here import graph

__all__ = ["graph"]
