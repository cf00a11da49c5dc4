"""A store on a fresh database."""

from tests.support.prompts import saver, store

__all__ = ["saver", "store"]
