"""`runtime memory list` and `search`: what they show, and where it comes from."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from superstep import TransactionalSaver, transactional
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from tests.support.commands import Runtime


@pytest.fixture
def moments(database_url: str) -> list[str]:
    """Times between puts: two items of ada, one of them put by a flow, one of bob, then a change."""
    return asyncio.run(_fill(database_url))


async def _fill(url: str) -> list[str]:
    async with TransactionalSaver.from_conn_string(url) as saver:
        store = saver.store

        async def node(state: Any) -> Any:
            await store.aput(("users", "ada"), "drink", {"likes": "green tea, hot"})

        await transactional(chain(saver, node)).ainvoke({"n": 0}, config_of("t-1"))
        await store.aput(("users", "ada"), "city", {"lives in": "Lisbon"}, ttl=60)
        await store.aput(("users", "bob"), "drink", {"likes": "orange juice"})
        then = (await store.ahistory(("users", "bob"), "drink"))[0].valid_from
        await store.aput(("users", "bob"), "drink", {"likes": "\x1b[31mmilk" + "k" * 300})
        return [then.isoformat(), datetime.now(UTC).isoformat()]


def test_a_listing_says_what_there_is_and_who_put_it(on_db: Runtime, moments: list[str]) -> None:
    shown = on_db("memory", "list").out
    assert "users / ada" in shown
    assert "green tea" in shown
    assert "node of t-1" in " ".join(shown.split())
    assert "\x1b" not in shown
    assert "k" * 250 not in "".join(shown.split())
    found = on_db("memory", "list", "users", "ada", "--json").json
    assert [(each["namespace"], each["key"]) for each in found] == [
        (["users", "ada"], key) for key in ("city", "drink")
    ]
    city, drink = found
    assert (city["value"], city["origin"], city["version"]) == ({"lives in": "Lisbon"}, None, 1)
    assert city["expires_at"] is not None
    assert drink["expires_at"] is None
    assert (drink["origin"]["thread_id"], drink["origin"]["node"], drink["origin"]["facts"]) == ("t-1", "node", [])
    assert len(on_db("memory", "list", "--limit", "1", "--json").json) == 1
    assert [each["key"] for each in on_db("memory", "list", "--limit", "1", "--offset", "1", "--json").json] == ["city"]


def test_a_search_shows_the_nearest_first(on_db: Runtime, moments: list[str]) -> None:
    found = on_db("memory", "search", "users", "what to drink: tea", "--json").json
    assert found[0]["value"] == {"likes": "green tea, hot"}
    assert found[0]["score"] == max(each["score"] for each in found)
    assert len(on_db("memory", "search", "users", "ada", "tea", "--limit", "5", "--json").json) == 2
    assert len(on_db("memory", "search", "tea", "--json").json) == 3
    assert "green tea" in on_db("memory", "search", "users", "tea").out


def test_as_of_a_moment(on_db: Runtime, moments: list[str]) -> None:
    then, now = moments
    said = [on_db("memory", "list", "users", "bob", "--as-of", at, "--json").json[0]["value"] for at in (then, now)]
    assert said[0] == {"likes": "orange juice"}
    assert said[1] != said[0]
    assert on_db("memory", "list", "--as-of", "2020-01-01", "--json").json == []
    assert on_db("memory", "search", "users", "juice", "--as-of", then, "--json").json[0]["value"] == said[0]


def test_nothing_and_nonsense(on_db: Runtime, moments: list[str]) -> None:
    assert "nothing in the memory" in on_db("memory", "list", "nobody").out
    assert on_db("memory", "list", "a.b").code == 3
    assert on_db("memory", "list", "--as-of", "soon").code == 2
    assert on_db("memory", "search").code == 2
    assert on_db("memory", "list", "--schema", f"s{uuid.uuid4().hex}").code == 4
    assert "memory" in on_db("memory", "--help").out
