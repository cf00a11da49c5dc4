"""Finds what could not have happened if transactions ran one after the other. Pure.

The method is Elle's (Kingsbury and Alvaro 2020). Every written value is unique, and keys hold lists that values are
appended to, so that what a transaction reads shows which writes came before it, in which order. From that follow the
dependencies between transactions (Adya, Liskov and O'Neil 2000):

    ww  one wrote what the other wrote next       wr  one wrote what the other read
    rw  one read what the other then replaced: it did not see the other's write

A history is serializable if its dependencies have no cycle. Sets are keys too, whose reads are predicates: what is in
the set tells wr, what is missing rw; a set has no order, hence no ww.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Anomaly", "Kind", "Transaction", "check"]

_STRENGTH = ("ww", "wr", "rw")


class Kind(Enum):
    """What is wrong with a history. The names of cycles are Adya's."""

    G0 = "write cycle"
    G1A = "aborted read"
    G1B = "intermediate read"
    G1C = "circular information flow"
    G_SINGLE = "read skew"
    G2_ITEM = "write skew"
    LOST = "lost write"
    DOUBLED = "write applied twice"
    UNKNOWN_VALUE = "value that nobody wrote"
    ORDER = "reads of one key that contradict each other"


@dataclass(slots=True)
class Transaction:
    """What a transaction read and wrote.

    Attributes:
        name: for messages.
        lists: what it read of keys that hold lists, by key.
        sets: what it read of keys that hold sets.
        appended: what it appended to lists, in its order.
        added: what it added to sets.
    """

    name: str
    lists: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sets: dict[str, frozenset[int]] = field(default_factory=dict)
    appended: list[tuple[str, int]] = field(default_factory=list)
    added: list[tuple[str, int]] = field(default_factory=list)


class Anomaly(NamedTuple):
    """One thing that is wrong, and the transactions or values that show it."""

    kind: Kind
    what: str


def check(
    history: Sequence[Transaction], final_lists: dict[str, tuple[int, ...]], final_sets: dict[str, frozenset[int]]
) -> list[Anomaly]:
    """Everything that is wrong with a history of committed transactions.

    Args:
        history: what committed, in any order.
        final_lists: what the lists hold at the end.
        final_sets: what the sets hold at the end.
    """
    found = list(_values(history, final_lists, final_sets))
    found += _orders(history, final_lists)
    return found + list(_cycles(history, _dependencies(history, final_lists)))


def _values(
    history: Sequence[Transaction], final_lists: dict[str, tuple[int, ...]], final_sets: dict[str, frozenset[int]]
) -> Iterable[Anomaly]:
    """Writes against what is there: nothing lost, nothing doubled, nothing from nowhere."""
    written = {(key, value) for each in history for key, value in (*each.appended, *each.added)}
    for key, values in final_lists.items():
        for value in set(values):
            if values.count(value) > 1:
                yield Anomaly(Kind.DOUBLED, f"{value} stands {values.count(value)} times in {key}")
    there = {(key, value) for held in (final_lists, final_sets) for key, values in held.items() for value in values}
    for key, value in sorted(written - there):
        yield Anomaly(Kind.LOST, f"{value} was written to {key} and is not there")
    for key, value in sorted(there - written):
        yield Anomaly(Kind.UNKNOWN_VALUE, f"{value} is in {key}, and nothing that committed wrote it")
    for each in history:
        for key, values in (*each.lists.items(), *((k, tuple(v)) for k, v in each.sets.items())):
            for value in values:
                if (key, value) not in written:
                    yield Anomaly(Kind.G1A, f"{each.name} read {value} of {key}, which no committed transaction wrote")


def _orders(history: Sequence[Transaction], final_lists: dict[str, tuple[int, ...]]) -> Iterable[Anomaly]:
    """Every read of a list is a beginning of what it holds at the end, and ends where a transaction's writes end."""
    found: list[Anomaly] = []
    last_of: dict[tuple[str, int], int] = {}
    for each in history:
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, value in each.appended:
            by_key[key].append(value)
        for key, values in by_key.items():
            last_of.update({(key, value): values[-1] for value in values})
    for each in history:
        for key, values in each.lists.items():
            if values != final_lists.get(key, ())[: len(values)]:
                found.append(
                    Anomaly(Kind.ORDER, f"{each.name} read {values[-5:]} of {key}, which is no beginning of it")
                )
            elif values and last_of.get((key, values[-1]), values[-1]) != values[-1]:
                found.append(Anomaly(Kind.G1B, f"{each.name} read {values[-1]} of {key}, and not what came with it"))
    return found


def _dependencies(history: Sequence[Transaction], final_lists: dict[str, tuple[int, ...]]) -> nx.DiGraph:
    """The dependencies, between positions in the history; each edge has the set of its `kinds`."""
    graph: nx.DiGraph = nx.DiGraph()
    writer = {written: at for at, each in enumerate(history) for written in each.appended}
    for one, other, kind in (*_of_lists(history, final_lists, writer), *_of_sets(history)):
        if one is None or other is None or one == other:
            continue
        if not graph.has_edge(one, other):
            graph.add_edge(one, other, kinds=set())
        graph.edges[one, other]["kinds"].add(kind)
    return graph


def _of_lists(
    history: Sequence[Transaction], final_lists: dict[str, tuple[int, ...]], writer: dict[tuple[str, int], int]
) -> Iterable[tuple[int | None, int | None, str]]:
    for key, values in final_lists.items():
        for before, after in pairwise(values):
            yield writer.get((key, before)), writer.get((key, after)), "ww"
    for at, each in enumerate(history):
        for key, seen in each.lists.items():
            if seen:
                yield writer.get((key, seen[-1])), at, "wr"
            for following in final_lists.get(key, ())[len(seen) :][:1]:
                yield at, writer.get((key, following)), "rw"


def _of_sets(history: Sequence[Transaction]) -> Iterable[tuple[int, int, str]]:
    added: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at, each in enumerate(history):
        for key, value in each.added:
            added[key].append((value, at))
    for at, each in enumerate(history):
        for key, seen in each.sets.items():
            for value, adder in added[key]:
                yield (adder, at, "wr") if value in seen else (at, adder, "rw")


def _cycles(history: Sequence[Transaction], graph: nx.DiGraph) -> Iterable[Anomaly]:
    """One cycle of each set of transactions that depend on each other, named by the kinds that it needs."""
    for kinds, name in (({"ww"}, Kind.G0), ({"ww", "wr"}, Kind.G1C), ({"ww", "wr", "rw"}, None)):
        part = nx.DiGraph((one, other) for one, other, of in graph.edges(data="kinds") if of & kinds)
        for group in nx.strongly_connected_components(part):
            if len(group) == 1:
                continue
            cycle = _cycle(part.subgraph(group), graph)
            needed = [min(graph.edges[edge]["kinds"] & kinds, key=_STRENGTH.index) for edge in cycle]
            if name is None and "rw" not in needed:
                continue  # told above
            kind = name or (Kind.G_SINGLE if needed.count("rw") == 1 else Kind.G2_ITEM)
            said = " → ".join(f"{history[one].name} {of}" for (one, _), of in zip(cycle, needed, strict=True))
            yield Anomaly(kind, f"{said} → {history[cycle[0][0]].name}")


def _cycle(component: nx.DiGraph, graph: nx.DiGraph) -> list[tuple[int, int]]:
    """The edges of a cycle through some edge of a component, with few that are nothing but rw."""

    def weight(one: int, other: int, _: object) -> int:
        return 100 if graph.edges[one, other]["kinds"] == {"rw"} else 1

    one, other = min(component.edges, key=lambda edge: (weight(*edge, None), edge))
    path = nx.shortest_path(component, other, one, weight=weight)
    return [(one, other), *pairwise(path)]
