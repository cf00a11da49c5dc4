from datetime import timedelta
from pathlib import Path

import pytest

from superstep.checkpointer import Retention, Rule
from superstep.runtime.faults import ConfigError
from superstep.runtime.settings.retention import asked_for, duration, retention
from superstep.runtime.settings.settings import load_settings

DAY = timedelta(days=1)


def rules(tmp_path: Path, text: str) -> Retention:
    (tmp_path / "runtime.toml").write_text(text)
    settings = load_settings(folder=tmp_path, env={})
    return retention(settings.retention, settings.place)


@pytest.mark.parametrize(
    ("text", "length"),
    [("30d", 30 * DAY), ("2 w", 14 * DAY), ("12h", DAY / 2), ("90m", DAY / 16), ("7s", timedelta(seconds=7))],
)
def test_lengths_of_time(text: str, length: timedelta) -> None:
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "30 days", "1y", "30d 12h", "9" * 12 + "w", "٣d"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="30d"):
        duration(text)


def test_a_file_without_rules_keeps_everything(tmp_path: Path) -> None:
    assert rules(tmp_path, "") == Retention()
    assert rules(tmp_path, "").each() == []


def test_a_graph_has_the_rule_of_all_but_for_what_it_says_itself(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        '[retention]\nttl = "90d"\nkeep_interrupted = false\n[retention.graphs.short]\nttl = "1d"\nkeep_latest = true\n'
        '[retention.graphs."a.b:graph"]\nttl = "forever"\n',
    )
    assert found.rule == Rule(90 * DAY, keep_latest=False, keep_interrupted=False)
    assert found.graphs == {
        "short": Rule(DAY, keep_latest=True, keep_interrupted=False),
        "a.b:graph": Rule(None, keep_latest=False, keep_interrupted=False),
    }
    assert [(due.graph, due.age) for due, _ in found.each()] == [("short", DAY), (None, 90 * DAY)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[retention]\nttl = "0d"\n', "line 2: retention.ttl must be a length of time"),
        ("[retention]\nttl = 30\n", "line 2: retention.ttl must be a length of time"),
        ('[retention]\nttll = "3d"\n', "line 2: retention.ttll is unknown"),
        ('[retention]\nkeep_latest = "yes"\n', "line 2: retention.keep_latest must be true or false"),
        ("[retention]\ngraphs = 3\n", "line 2: retention.graphs must be a table"),
        ("[retention.graphs]\na = 3\n", "line 2: retention.graphs.a must be a table"),
        ('[retention.graphs.a]\nttl = "soon"\n', "line 2: retention.graphs.a.ttl must be a length of time"),
        ("retention = 3\n", "line 1: retention must be a table"),
    ],
)
def test_a_wrong_rule_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, text)
    assert said in str(caught.value)


def test_what_is_asked_for_once_goes_before_the_file() -> None:
    given = Retention(Rule(DAY), {"a": Rule(None), "b": Rule(2 * DAY, keep_latest=True)})
    for_all = asked_for(given, ttl=3 * DAY, keep_latest=False, also_interrupted=True)
    assert for_all == Retention(Rule(3 * DAY, keep_interrupted=False))
    assert asked_for(given, ttl=None, keep_latest=False, also_interrupted=False) == given
    changed = asked_for(given, ttl=None, keep_latest=True, also_interrupted=True)
    assert changed.rule == Rule(DAY, keep_latest=True, keep_interrupted=False)
    assert changed.graphs["a"].ttl is None
