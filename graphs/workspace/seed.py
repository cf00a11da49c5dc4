"""Tables and example files: made once, the same everywhere, safe to start from any number of processes.

Not a migration tool: data that is there is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from superstep import prompts, seed_prompts, seed_tables

if TYPE_CHECKING:
    from superstep import TransactionalSaver

__all__ = ["FILES", "setup"]

_SCHEMA = Path(__file__).with_name("schema.sql")

FILES = {
    "prices.py": '''"""Prices, in cents."""

VAT = 19


def gross(net):
    """A net price with VAT, rounded half up."""
    return net + (net * VAT + 50) // 100


MAX_DISCOUNT = 30


def discounted(price, percent):
    """A price after a discount, which is never larger than MAX_DISCOUNT percent."""
    return price - price * min(percent, MAX_DISCOUNT) // 100
''',
    "stock.py": '''"""What is in stock, as counts by name."""

REORDER_BELOW = 10


def to_reorder(stock):
    """Names that run low."""
    return sorted(name for name, count in stock.items() if count < REORDER_BELOW)


SHELVES = 12


def shelf(name):
    """Number of the shelf that a name is on."""
    return sum(name.encode()) % SHELVES
''',
    "test_prices.py": """import unittest

import prices

LARGEST_DISCOUNT = 60


class Prices(unittest.TestCase):
    def test_vat_is_added(self):
        self.assertEqual(prices.gross(10_000), 10_000 + 100 * prices.VAT)

    def test_discounts_are_bounded(self):
        self.assertLessEqual(prices.MAX_DISCOUNT, LARGEST_DISCOUNT)
        self.assertEqual(prices.discounted(100, 100), 100 - prices.MAX_DISCOUNT)
""",
    "test_stock.py": """import unittest

import stock


class Stock(unittest.TestCase):
    def test_what_runs_low_is_ordered(self):
        self.assertEqual(stock.to_reorder({"a": 0, "b": stock.REORDER_BELOW}), ["a"])

    def test_every_name_has_a_shelf(self):
        self.assertIn(stock.shelf("bolt"), range(stock.SHELVES))
""",
}


async def setup(saver: TransactionalSaver) -> None:
    """Create the schema `workspace` with its example files, and the flow's prompts, unless they exist.

    Idempotent; any number of processes may call it at once, and one of them does the work.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or refuses the rights to create a schema.
    """
    await seed_prompts(saver, Path(prompts.__file__).parent)
    await seed_tables(saver, "workspace.file", lambda: _create(saver))


async def _create(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute(_SCHEMA.read_text(encoding="utf-8"))
        await tx.execute(
            "INSERT INTO workspace.merge (id, thread_id, agent, task, reviewed, tested) "
            "VALUES (0, '', 'seed', 'the example files', '', '')"
        )
        await tx.executemany(
            "INSERT INTO workspace.file (path, merge, content) VALUES ($1, 0, $2)", list(FILES.items())
        )
