"""Tables and example data: made once, the same everywhere, safe to start from any number of processes.

Not a migration tool: data that is there is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from superstep import prompts, seed_prompts, seed_tables
from superstep.graphs.approvals.sanctions import LISTED

if TYPE_CHECKING:
    from superstep import TransactionalSaver

__all__ = ["APPROVERS", "BUDGETS", "setup", "vendors"]

VENDORS = 40

BUDGETS = {"operations": 50_000_000_00, "marketing": 400_000_00, "workshop": 60_000_00}

# Each may approve up to an amount. `E-kim` requests the example payment, and may not approve it.
APPROVERS = (
    ("E-ana", "Ana Duarte", 100_000_00),
    ("E-bo", "Bo Lindqvist", 100_000_00),
    ("E-cem", "Cem Aydin", 20_000_00),
    ("E-kim", "Kim Ito", 100_000_00),
)

_SCHEMA = Path(__file__).with_name("schema.sql")


async def setup(saver: TransactionalSaver) -> None:
    """Create the schema `approvals` with its example data, and the flow's prompts, unless they exist.

    Idempotent; any number of processes may call it at once, and one of them does the work.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or refuses the rights to create a schema.
    """
    await seed_prompts(saver, Path(prompts.__file__).parent)
    await seed_tables(saver, "approvals.payment", lambda: _create(saver))


def vendors() -> list[tuple[str, str, str, str]]:
    """The example vendors: id, name, status and bank account."""
    listed = (*sorted(LISTED), "Old Quarry")
    names = [f"{trade} {kind}" for kind in ("Works", "Supply", "Services", "Partners") for trade in _TRADES]
    names = ["Alder Tools", *listed, *names][:VENDORS]
    return [
        (f"V-{at:03}", name, "blocked" if name == "Old Quarry" else "active", f"XX{at:02} 1000 {at * 7919 % 10_000:04}")
        for at, name in enumerate(names, start=1)
    ]


async def _create(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute(_SCHEMA.read_text(encoding="utf-8"))
        await tx.executemany(
            "INSERT INTO approvals.vendor (id, name, status, bank_account) VALUES ($1, $2, $3, $4)", vendors()
        )
        await tx.executemany("INSERT INTO approvals.budget (id, total) VALUES ($1, $2)", list(BUDGETS.items()))
        await tx.executemany("INSERT INTO approvals.approver (id, name, up_to) VALUES ($1, $2, $3)", list(APPROVERS))
        # One payment of the past, which the model is shown beside the example.
        await tx.execute(
            "INSERT INTO approvals.payment (vendor_id, invoice, budget_id, bank_account, amount, paid_at) "
            "SELECT id, 'INV-2023-118', 'operations', bank_account, 1420000, '2023-11-20' FROM approvals.vendor "
            "WHERE id = 'V-001'"
        )
        await tx.execute("UPDATE approvals.budget SET spent = 1420000 WHERE id = 'operations'")
        for table in ("vendor", "budget", "payment", "screening", "approval"):
            await tx.execute(f"ANALYZE approvals.{table}")


_TRADES = ("Birch", "Cedar", "Dale", "Elm", "Fern", "Glen", "Heath", "Iris", "Juniper", "Kelp")
