"""Tables and example data: made once, the same everywhere, safe to start from any number of processes.

Not a migration tool: data that is there is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from superstep import embedder, prompts, seed_prompts, seed_tables
from superstep.graphs.support.agent import require_langchain

if TYPE_CHECKING:
    from superstep import TransactionalSaver

__all__ = ["ARTICLES", "customers", "orders", "setup"]

CUSTOMERS = 20
REFUND_CAP = 1_000_00

ARTICLES = {
    "refunds": "An order can be refunded as a whole. The money is back on your card within three working days.",
    "damaged": "If something arrives damaged, send us the order number. You need not send the item back.",
    "delivery": "Parcels take two to four working days. You get a tracking number by e-mail when they leave.",
    "address": "You can change your address until the parcel has left our warehouse.",
    "returns": "You have thirty days to return what you do not like, unused and in its box.",
    "warranty": "Kettles and coffee machines have two years of warranty against faults.",
    "descaling": "Descale a kettle once a month: half vinegar, half water, boil, wait, and rinse twice.",
    "invoices": "Invoices for every order are in your account, as PDF files.",
    "payment": "We take cards, bank transfer and invoices for companies. Your card is charged when the parcel leaves.",
    "closing": "You may close your account at any time. Open orders are still delivered.",
}

_SCHEMA = Path(__file__).with_name("schema.sql")


async def setup(saver: TransactionalSaver) -> None:
    """Create the schema `support` with its example data, and the flow's prompts, unless they exist.

    Idempotent; any number of processes may call it at once, and one of them does the work.

    Raises:
        ConfigError: `langchain` is not installed.
        DatabaseUnavailable: The database cannot be reached, or refuses the rights to create a schema.
        ExtensionMissing: It has no pgvector, in which articles and memories are searched.
        ProviderUnavailable: The embedding model is not installed.
    """
    require_langchain()
    await seed_prompts(saver, Path(prompts.__file__).parent)
    await seed_tables(saver, "support.article", lambda: _create(saver))


def customers() -> list[tuple[str, str, str, str, int]]:
    """The example customers: id, name, status, address and yearly limit. The last one has left."""
    return [
        (
            f"C-{n:03}",
            f"{_NAMES[n % 10]} {_FAMILIES[n % 7]}",
            "closed" if n == CUSTOMERS else "open",
            f"Elm Lane {n}",
            REFUND_CAP,
        )
        for n in range(1, CUSTOMERS + 1)
    ]


def orders() -> list[tuple[str, str, str, int, str]]:
    """The example orders: id, customer, item, total and status. O-1001 to O-1006 are of C-001, and so on."""
    return [
        (f"O-{n}{place:03}", f"C-{n:03}", item, total, status)
        for n in range(1, CUSTOMERS + 1)
        for place, (item, total, status) in enumerate(_ITEMS, start=1)
    ]


async def _create(saver: TransactionalSaver) -> None:
    await saver.arequire_vectors()
    vectors = await embedder().embed(list(ARTICLES.values()))
    async with saver.transaction() as tx:
        await tx.execute(_SCHEMA.read_text(encoding="utf-8"))
        await tx.executemany(
            "INSERT INTO support.customer (id, name, status, address, refund_cap) VALUES ($1, $2, $3, $4, $5)",
            customers(),
        )
        await tx.executemany(
            "INSERT INTO support.purchase (id, customer_id, item, total, status) VALUES ($1, $2, $3, $4, $5)", orders()
        )
        # Vectors travel as text, so that this works whichever codecs the connection has.
        await tx.executemany(
            "INSERT INTO support.article (id, content, embedding) VALUES ($1, $2, $3::text::vector)",
            [(key, text, str(list(each))) for (key, text), each in zip(ARTICLES.items(), vectors, strict=True)],
        )
        for table in ("customer", "purchase", "refund", "refund_year", "article"):
            await tx.execute(f"ANALYZE support.{table}")


_ITEMS = (
    ("teapot", 24_00, "delivered"),
    ("kettle", 49_00, "delivered"),
    ("espresso machine", 640_00, "delivered"),
    ("grinder", 310_00, "shipped"),
    ("scale", 90_00, "cancelled"),
    ("milk jug", 18_00, "delivered"),
)
_NAMES = ("Ada", "Bo", "Chidi", "Dana", "Elif", "Femi", "Greta", "Hana", "Ivo", "Jun")
_FAMILIES = ("Adler", "Costa", "Dubois", "Gruber", "Haddad", "Ito", "Kowalski")
