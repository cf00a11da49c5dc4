import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from superstep.runtime.cli.run.inputs import fit_input, read_json, require_fields
from superstep.runtime.faults import InputInvalid
from tests.runtime.cli.graphs_for_tests import counting, various
from tests.runtime.cli.graphs_for_tests.counting import Colour, Order


def test_json_from_the_line_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.json").write_text('{"a": 2}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 3}'))
    found = [read_json(given, "--input") for given in ('{"a": 1}', f"@{tmp_path}/in.json", "-")]
    assert found == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("approve", ["--value", "line 1", "plain text", """'"approve"'"""]),
        ("{'a': 1}", ["line 1, column 2"]),
        ("@nowhere.json", ["nowhere.json", "No such file"]),
        ("NaN", ["NaN"]),
        ("", ["line 1"]),
    ],
)
def test_what_is_not_json_is_explained(given: str, words: list[str]) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_json(given, "--value")
    for word in words:
        assert word in str(caught.value)


COUNTING = counting.compiled
STRICT = counting.strict.compile()
PICKY = counting.picky.compile()
CHAT = counting.chat.compile()


@pytest.mark.parametrize(
    ("graph", "value", "expected"),
    [
        (COUNTING, {"number": 1}, {"number": 1}),
        (COUNTING, {}, {}),
        (COUNTING, {"seen": ["x"]}, {"seen": ["x"]}),
        (COUNTING, {"order": {"item": "i", "amount": 2}}, {"order": Order(item="i", amount=2.0)}),
        (COUNTING, {"colour": "red", "day": "2026-01-02"}, {"colour": Colour.RED, "day": date(2026, 1, 2)}),
        (COUNTING, {"place": {"city": "c", "more": 1}}, {"place": {"city": "c", "more": 1}}),
        (PICKY, {"places": [{"city": "c"}]}, {"places": [{"city": "c"}]}),
        (PICKY, {"places": None}, {"places": None}),
        (STRICT, {"number": 1}, {"number": 1}),
        (CHAT, {"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "user", "content": "hi"}]}),
        (CHAT, {"messages": "hi"}, {"messages": "hi"}),
        (various.greet, "you", "you"),
    ],
)
def test_an_input_that_fits(graph: Any, value: Any, expected: Any) -> None:
    assert fit_input(value, graph, "g") == expected


@pytest.mark.parametrize(
    ("graph", "value", "words"),
    [
        (COUNTING, {"numbr": 1}, ["'numbr'", "Did you mean 'number'"]),
        (COUNTING, {"zzz": 1}, ["'zzz'", "number, seen"]),
        (COUNTING, {"number": "1"}, ["number: Input should be a valid integer"]),
        (COUNTING, {"seen": "x"}, ["seen: "]),
        (COUNTING, {"order": {"item": "i"}}, ["order.amount: Field required"]),
        (COUNTING, {"place": {"cty": "c"}}, ["place.city: Field required"]),
        (PICKY, {"places": [{"cty": "c"}]}, ["city: Field required"]),
        (COUNTING, [1], ["JSON object", "a list"]),
        (COUNTING, "x", ["JSON object", "a text"]),
        (COUNTING, None, ["null"]),
        (STRICT, {}, ["number: Field required"]),
        (STRICT, {"number": 1, "extra": 2}, ["'extra'"]),
        (STRICT, {"number": "one"}, ["number: "]),
        (various.greet, 5, ["valid string"]),
    ],
)
def test_an_input_that_does_not_fit_names_the_field(graph: Any, value: Any, words: list[str]) -> None:
    with pytest.raises(InputInvalid) as caught:
        fit_input(value, graph, "g")
    for word in words:
        assert word in str(caught.value)


def test_fields_that_a_graph_cannot_do_without() -> None:
    require_fields({"account": "A"}, PICKY, "g")
    require_fields({}, COUNTING, "g")
    require_fields({}, CHAT, "g")
    require_fields("you", various.greet, "g")
    with pytest.raises(InputInvalid, match="lacks account"):
        require_fields({"places": None}, PICKY, "g")
