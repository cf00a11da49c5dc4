"""Files that say little and mean too much are refused by name, in bounded time and memory."""

from __future__ import annotations

import time

import pytest

from superstep.prompts.files.documents import read_document
from superstep.prompts.rendering.templates import Piece, sandbox, template, uses
from superstep.runtime.faults import PromptInvalid


def laughs(levels: int, open_: str = "[", close: str = "]") -> str:
    lines = [f"a0: &a0 {open_}{','.join('x' * 9)}{close}"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("front", "said"),
    [
        (laughs(6), "more than 100,000 values"),
        (laughs(12), "more than 100,000 values"),
        ("a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)),
         "more than 100,000 values"),
        ("a: " + "[" * 20_000, "nested too deep"),
        ("a: " + "{b: " * 200 + "1" + "}" * 200, "nested too deep"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
    ],
)  # fmt: skip
def test_front_matter(front: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(PromptInvalid, match=said):
        read_document(f"---\n{front}\n---\nHello", "f.md", markdown=True)
    assert time.monotonic() - began < 5


def test_aliases_that_stay_small_are_fine() -> None:
    document = read_document("---\ndefaults: &d {a: 1}\nother: {<<: *d, b: 2}\n---\nHello", "f.md", markdown=True)
    assert document.table["other"] == {"a": 1, "b": 2}


DEEP = {
    "blocks": "{% if a %}" * 3_000 + "{% endif %}" * 3_000,
    "loops": "{% for i in a %}" * 25 + "{% endfor %}" * 25,
    "parentheses": "{{ " + "(" * 3_000 + "a" + ")" * 3_000 + " }}",
    "lists": "{{ " + "[" * 200 + "a" + "]" * 200 + " }}",
    "filters": "{{ a" + "|upper" * 3_000 + " }}",
    "attributes": "{{ a" + ".b" * 3_000 + " }}",
    "sums": "{{ a" + " + a" * 3_000 + " }}",
    "negations": "{{ " + "not " * 3_000 + "a }}",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_templates(text: str) -> None:
    piece = Piece(text, "f.md", "messages[1]")
    for compiled in (lambda: uses(piece, lambda _: None), lambda: template(sandbox(), piece, lambda _: None)):
        with pytest.raises(PromptInvalid, match=r"f\.md, messages\[1\], line 1: .*nested too deep"):
            compiled()


def included(name: str) -> Piece:
    """Eight levels, each including the next ten times."""
    level = int(name)
    return Piece("x" if level == 8 else f'{{% include "{level + 1}" %}}' * 10, "f.md", name)


def test_includes_of_includes() -> None:
    with pytest.raises(PromptInvalid, match="more than 1,000 includes"):
        uses(Piece('{% include "1" %}', "f.md", "messages[1]"), included)


def test_a_long_text_that_is_included_often() -> None:
    with pytest.raises(PromptInvalid, match="longer than 1,000,000 characters"):
        uses(Piece('{% include "long" %}' * 20, "f.md", "m"), lambda _: Piece("x" * 100_000, "f.md", "long"))


@pytest.mark.parametrize(
    "text", ["{{ 10 ** 10000 }}", "{{ 'a' * 10 ** 10 }}", "{{ [1] * 9999999 }}", "{{ 7 ** 99999 }}"]
)
def test_what_a_template_computes(text: str) -> None:
    made = template(sandbox(), Piece(text, "f.md", "m"), lambda _: None)
    with pytest.raises(Exception, match="too large"):
        made.render()


def test_sums_that_stay_small_are_fine() -> None:
    piece = Piece("{{ 2 ** 10 }} {{ 'ab' * 3 }} {{ n * 1.5 }} {{ [1] * 2 }}", "f.md", "m")
    assert template(sandbox(), piece, lambda _: None).render(n=2) == "1024 ababab 3.0 [1, 1]"


@pytest.mark.parametrize("text", ["{#" * 50_000, "{% raw %}" * 20_000, "{% include " * 20_000])
def test_what_is_not_closed(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(PromptInvalid):
        uses(Piece(text, "f.md", "m"), lambda _: None)
    assert time.monotonic() - began < 5
