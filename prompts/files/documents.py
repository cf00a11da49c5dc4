"""Prompt files as they are written: TOML, or Markdown with YAML front matter. Text in, tables out.

The same prompt in both forms:

    description = "Checks an account"           ---
    route = "fast"                              description: Checks an account
    parameters = { temperature = 0 }            route: fast
                                                parameters: {temperature: 0}
    [variables]                                 variables:
    account = "object"                            account: object
    past = { type = "messages", default = [] }    past: {type: messages, default: []}
                                                partials:
    [partials]                                    tone: Be brief.
    tone = "Be brief."                          ---
                                                system:
    [[messages]]                                {% include "tone" %}
    role = "system"                             {% include "shared/law.md" %}
    content = '''
    {% include "tone" %}                        placeholder: past
    {% include "shared/law.md" %}
    '''                                         user:
                                                Is {{ account }} in order?
    [[messages]]
    role = "placeholder"
    name = "past"

    [[messages]]
    role = "user"
    content = "Is {{ account }} in order?"

Both may have `[[examples]]` with `input` and `output`, shown before the last user message or in place of a message with
the role `examples`, and golden `[[cases]]` with `name`, `variables` and `expect` (the rules of `prompts.model.rules`).

A Markdown body without a line such as `user:` is one user message. A Markdown file without front matter is no prompt:
it is text for others to include, or a README.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Document", "has_front_matter", "included", "read_document"]

_RULER = "---"
# A line of its own that names the speaker from here on. `placeholder` names the variable that holds messages.
_SPEAKER = re.compile(r"(system|user|assistant|examples):|placeholder: *([A-Za-z]\w*)")
_DEEPEST = 50  # levels of values in values
_MOST_VALUES = 100_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """One file.

    Attributes:
        file: how to call it in errors.
        table: what it says, with `messages` in the form of TOML's `[[messages]]`, whatever the file's format.
        lines: for each message the file's line that its content starts at, where that is known.
    """

    file: str
    table: dict[str, Any]
    lines: tuple[int | None, ...]


def has_front_matter(text: str) -> bool:
    """Whether a Markdown text is a prompt."""
    return text.split("\n", 1)[0].rstrip() == _RULER


def included(text: str, file: str) -> tuple[str, int]:
    """What an include takes of a Markdown text: all but its front matter, and the line that starts at."""
    _, body, first = _halves(text, file) if has_front_matter(text) else ("", text, 1)
    return _content(body.split("\n"), first)


def read_document(text: str, file: str, *, markdown: bool) -> Document:
    """Parse the text of a file.

    Raises:
        PromptInvalid: It is not TOML, or its front matter is not YAML or not a table. The message names file and line.
    """
    try:
        table, lines = _markdown(text, file) if markdown else (_toml(text, file), ())
        bad = next((where for where, value in _texts("", table) if _UNSTORABLE.search(value)), None)
    except RecursionError:
        raise PromptInvalid(f"{file}: is nested too deep, or contains itself.") from None
    if bad is not None:
        raise PromptInvalid(f"{file}, {bad}: has a character that cannot be stored (NUL or half a surrogate pair).")
    return Document(file, table, lines)


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PromptInvalid(f"{file}: not valid TOML: {error}.") from error


def _markdown(text: str, file: str) -> tuple[dict[str, Any], tuple[int | None, ...]]:
    front, body, first = _halves(text, file)
    try:
        table = _yaml(front, file)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 2}" if mark is not None else file
        raise PromptInvalid(
            f"{where}: the front matter is not valid YAML: {getattr(error, 'problem', error)}."
        ) from error
    table = {} if table is None else table
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise PromptInvalid(f"{file}: the front matter must be a table of keys and values, such as `route: fast`.")
    if "messages" in table:
        raise PromptInvalid(f"{file}: the messages of a Markdown prompt are its body; remove `messages` from the top.")
    parts = list(_split(body.split("\n"), first, file))
    return {**table, "messages": [message for message, _ in parts]}, tuple(line for _, line in parts)


def _yaml(text: str, file: str) -> Any:
    """What a YAML text says.

    Raises:
        PromptInvalid: it is nested too deep, contains itself, or says too much: a few aliases of aliases can stand for
            more values than fit into memory. Noticed before any of them is made.
        yaml.YAMLError: it is not valid.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _values(root, {}) > _MOST_VALUES:
            raise PromptInvalid(
                f"{file}: has more than {_MOST_VALUES:,} values, counted as often as aliases name them."
            )
        return loader.construct_document(root)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped
    """YAML's own, which stops at a depth instead of at the end of the stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RecursionError
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for, those of aliases counted each time."""
    if id(node) in known:
        counted = known[id(node)]
        if counted is None:
            raise RecursionError  # it contains itself
        return counted
    known[id(node)] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [each for pair in node.value for each in pair]
    known[id(node)] = total = 1 + sum(_values(each, known) for each in inner)
    return total


def _halves(text: str, file: str) -> tuple[str, str, int]:
    """Front matter, body, and the line that the body starts at."""
    lines = text.split("\n")
    for at, line in enumerate(lines[1:], start=1):
        if line.rstrip() == _RULER:
            return "\n".join(lines[1:at]), "\n".join(lines[at + 1 :]), at + 2
    raise PromptInvalid(f"{file}: the front matter has no end. Close it with a line of three dashes.")


def _split(lines: list[str], first: int, file: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The messages of a body, each with the line its content starts at."""
    marks = [(at, match) for at, line in enumerate(lines) if (match := _SPEAKER.fullmatch(line.rstrip()))]
    before = lines[: marks[0][0]] if marks else []
    if any(line.strip() for line in before):
        raise PromptInvalid(f"{file}, line {first}: this text has no speaker. Put a line such as `system:` above it.")
    if not marks:
        content, line = _content(lines, first)
        yield {"role": "user", "content": content}, line
        return
    ends = [at for at, _ in marks[1:]] + [len(lines)]
    for (at, match), end in zip(marks, ends, strict=True):
        content, line = _content(lines[at + 1 : end], first + at + 1)
        said = {"content": content} if content else {}
        speaker = {"role": "placeholder", "name": match[2]} if match[2] else {"role": match[1]}
        yield {**speaker, **said}, line


def _content(lines: list[str], at: int) -> tuple[str, int]:
    """Text without blank lines around it, and the line it starts at, counted from `at`."""
    blank = next((n for n, line in enumerate(lines) if line.strip()), 0)
    return "\n".join(lines).strip(), at + blank


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """All texts of a table, keys included, with their paths."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield where or "a key", str(key)
            yield from _texts(f"{where}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _texts(f"{where}[{at}]", inner)
