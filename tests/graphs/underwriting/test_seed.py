"""Example data."""

from __future__ import annotations

from superstep.graphs import underwriting
from superstep.graphs.underwriting import seed
from superstep.graphs.underwriting.limits import PRODUCTS


def test_the_seed_is_deterministic_and_consistent() -> None:
    rows = list(seed.accounts())
    assert rows == list(seed.accounts())
    assert len({row.national_id for row in rows}) == len(rows) == seed.ACCOUNTS
    assert rows[0].id == underwriting.example_input["account_id"]
    assert all(0 <= drawn <= limit for row in rows for _, limit, drawn in row.lines)
    known = list(seed.passages())
    assert len({passage.id for passage in known}) == len(known) >= 60
    assert {passage.product for passage in known} == {*PRODUCTS, "any"}
