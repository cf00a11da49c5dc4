"""Two vendors on loopback and a service that routes between them."""

from tests.support.routes import bed, first, second

__all__ = ["bed", "first", "second"]
