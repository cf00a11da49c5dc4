"""Tables and example data: made once, the same everywhere, safe to start from any number of processes.

Not a migration tool: data that is there is left alone.
"""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep import embedder, prompts, seed_prompts, seed_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from superstep import TransactionalSaver

__all__ = ["EXAMPLE_ACCOUNT", "PolicyPassage", "accounts", "passages", "setup"]

EXAMPLE_ACCOUNT = "A-0001"
ACCOUNTS = 400

_HERE = Path(__file__).parent


class PolicyPassage(NamedTuple):
    """One passage of the credit policy; `product` is `any` where it holds for every product."""

    id: str
    product: str
    topic: str
    content: str


class ExampleAccount(NamedTuple):
    """One account with its owner and its lines. Amounts in cents."""

    id: str
    name: str
    national_id: str
    annual_income: int
    kyc_status: str
    sanctioned: bool
    status: str
    lines: tuple[tuple[str, int, int], ...]  # product, limit, drawn
    obligations: int


async def setup(saver: TransactionalSaver) -> None:
    """Create the schema `underwriting` with its example data, and the flow's prompts, unless they exist.

    Idempotent; any number of processes may call it at once, and one of them does the work. A few short queries when
    there is nothing to do.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or refuses the rights to create a schema.
        ExtensionMissing: It has no pgvector, in which the credit policy is searched.
        ProviderUnavailable: The embedding model is not installed.
    """
    await seed_prompts(saver, Path(prompts.__file__).parent)
    await seed_tables(saver, "underwriting.policy", lambda: _create(saver))


async def _create(saver: TransactionalSaver) -> None:
    await saver.arequire_vectors()
    known = list(passages())
    vectors = await embedder().embed([passage.content for passage in known])
    async with saver.transaction() as tx:
        await tx.execute((_HERE / "schema.sql").read_text(encoding="utf-8"))
        await _insert_accounts(tx)
        await _insert_passages(tx, known, vectors)
        # Without statistics the planner takes a fresh table for tiny and scans it; see schema.sql.
        for table in ("applicant", "account", "credit_line", "exposure", "policy"):
            await tx.execute(f"ANALYZE underwriting.{table}")


def passages() -> Iterator[PolicyPassage]:
    """Read the policy passages, with ids that stay while the file only grows at the end of a topic."""
    with (_HERE / "policies.toml").open("rb") as file:
        products: dict[str, dict[str, list[str]]] = tomllib.load(file)
    for product, topics in products.items():
        for topic, texts in topics.items():
            for number, text in enumerate(texts, start=1):
                yield PolicyPassage(f"{product}.{topic}.{number}", product, topic, text)


def accounts() -> Iterator[ExampleAccount]:
    """Generate the example accounts: the same ones at every call, `EXAMPLE_ACCOUNT` first."""
    # A sound business with a wide line, so that the example input is approved many times before the line is full.
    lines = (("card", 5_000_00, 0), ("personal_loan", 40_000_00, 0), ("business_line", 5_000_000_00, 0))
    yield ExampleAccount(
        EXAMPLE_ACCOUNT, "Juno Okafor", "ID-0001-A", 9_000_000_00, "verified", False, "open", lines, 12_000_00
    )
    chance = random.Random(20_240_501)  # noqa: S311 - example data, not a secret
    for number in range(2, ACCOUNTS + 1):
        income = chance.randrange(18_000, 180_000) * 100
        limits = {"card": income // 6, "personal_loan": income // 2, "business_line": income * 2}
        yield ExampleAccount(
            id=f"A-{number:04}",
            name=f"{chance.choice(_GIVEN)} {chance.choice(_FAMILY)}",
            national_id=f"ID-{number:04}-{chance.choice('ABCDEFGH')}",
            annual_income=income,
            kyc_status=chance.choices(("verified", "expired", "pending"), weights=(90, 6, 4))[0],
            sanctioned=chance.random() < 0.01,
            status="closed" if chance.random() < 0.03 else "open",
            lines=tuple((name, limit, int(limit * chance.random() ** 2)) for name, limit in limits.items()),
            obligations=int(income * chance.random() * 0.3) + 1,
        )


async def _insert_accounts(tx: Any) -> None:
    rows = list(accounts())
    await tx.executemany(
        "INSERT INTO underwriting.applicant (id, name, national_id, annual_income, kyc_status, sanctioned) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        [(f"P-{a.id}", a.name, a.national_id, a.annual_income, a.kyc_status, a.sanctioned) for a in rows],
    )
    await tx.executemany(
        "INSERT INTO underwriting.account (id, applicant_id, status) VALUES ($1, $2, $3)",
        [(a.id, f"P-{a.id}", a.status) for a in rows],
    )
    await tx.executemany(
        "INSERT INTO underwriting.credit_line (id, account_id, product, credit_limit, drawn) "
        "VALUES ($1, $2, $3, $4, $5)",
        [(f"L-{a.id}-{name}", a.id, name, limit, drawn) for a in rows for name, limit, drawn in a.lines],
    )
    await tx.executemany(
        "INSERT INTO underwriting.exposure (account_id, amount) VALUES ($1, $2)",
        [(a.id, a.obligations) for a in rows],
    )


async def _insert_passages(tx: Any, known: Sequence[PolicyPassage], vectors: Sequence[Sequence[float]]) -> None:
    # Vectors and JSON travel as text, so that this works whichever codecs the connection has.
    await tx.executemany(
        "INSERT INTO underwriting.policy (id, product, content, metadata, embedding) "
        "VALUES ($1, $2, $3, $4::text::jsonb, $5::text::vector)",
        [
            (each.id, each.product, each.content, json.dumps({"topic": each.topic}), str(list(vector)))
            for each, vector in zip(known, vectors, strict=True)
        ],
    )


_GIVEN = ("Ada", "Bo", "Chidi", "Dana", "Elif", "Femi", "Greta", "Hana", "Ivo", "Jun", "Kaja", "Leon", "Mira", "Noor")
_FAMILY = (
    "Adler",
    "Banerjee",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fontana",
    "Gruber",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalski",
)
