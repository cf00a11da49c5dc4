"""From a file's tables to the content of a version: every key checked, every include found and bundled."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from superstep.prompts.files.tables import Table
from superstep.prompts.model.cases import Case, read_cases
from superstep.prompts.model.content import REQUIRED, ROLES, Content, Example, Message, Role, Variable
from superstep.prompts.model.labels import check_name
from superstep.prompts.model.variables import TYPES, check, did_you_mean
from superstep.prompts.rendering.templates import Find, Piece, Uses, uses
from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.prompts.files.documents import Document

__all__ = ["Draft", "draft"]

_KEYS = ("name", "description", "route", "parameters", "variables", "messages", "examples", "partials", "cases")
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt as it stands in a file, ready to become a version.

    Attributes:
        name: of the prompt.
        content: what the version will say.
        description: for people.
        cases: golden cases.
        file: where it was read from.
    """

    name: str
    content: Content
    description: str = ""
    cases: tuple[Case, ...] = ()
    file: str = ""


def draft(document: Document, name: str, find_file: Find) -> Draft:
    """Check a document and bundle what it includes.

    Args:
        document: The file's tables.
        name: What the prompt is called unless the file says otherwise.
        find_file: Looks up an included file of the folder.

    Raises:
        PromptInvalid: Something is wrong with it. The message names file and place.
    """
    table = Table(document.file, "", document.table, _KEYS)
    variables = {key: _variable(table, key, given) for key, given in table.table("variables").items()}
    examples = tuple(_example(each) for each in table.tables("examples", ("input", "output")))
    spoken = [_message(each, variables) for each in table.tables("messages", ("role", "content", "name"))]
    messages = _with_examples(table, spoken, has_examples=bool(examples))
    pieces = _pieces(document, spoken, examples)
    find = _finder(table, find_file)
    used = [(piece, uses(piece, find)) for piece in pieces]
    _check_declared(table.file, used, variables)
    content = Content(
        messages=messages,
        variables=variables,
        includes={key: text for _, each in used for key, text in each.includes.items()},
        examples=examples,
        route=table.text("route") or None,
        parameters=table.json("parameters", {}),
    )
    return Draft(
        name=check_name(table.text("name") or name, f"{document.file}: "),
        content=content,
        description=table.text("description"),
        cases=read_cases(document.table.get("cases", []), variables, document.file),
        file=document.file,
    )


def _variable(table: Table, name: str, given: Any) -> Variable:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or keyword.iskeyword(name.capitalize()):
        raise table.wrong(f"{name!r} cannot be the name of a variable in a template", "variables")
    path = f"variables.{name}"
    inner = Table(table.file, path, {"type": given} if isinstance(given, str) else given, _VARIABLE)
    declared = inner.text("type")
    kind = declared.removesuffix("?")
    if kind not in TYPES:
        raise inner.wrong(f"the type {declared!r} is not known. Types are {', '.join(TYPES)}, or one of them with '?'")
    made = Variable(kind, declared.endswith("?"), REQUIRED, inner.text("description"))
    if not inner.has("default"):
        return made
    default = inner.json("default", None)
    try:
        check(made, default)
    except TypeError as error:
        raise inner.wrong(f"the default {error}") from error
    return Variable(made.type, made.nullable, default, made.description)


_VARIABLE = ("type", "default", "description")


def _example(table: Table) -> Example:
    made = Example(table.text("input"), table.text("output"))
    if not made.input or not made.output:
        raise table.wrong("needs both `input` and `output`")
    return made


def _with_examples(table: Table, spoken: list[Message], *, has_examples: bool) -> tuple[Message, ...]:
    """The messages with a place for the examples, by default before the last user message."""
    places = sum(each.role == "examples" for each in spoken)
    if len(spoken) == places:
        raise table.wrong("has no messages. Write [[messages]] with role and content, or a body under the front matter")
    if places > 1:
        raise table.wrong("has two messages with role = 'examples'")
    if places and not has_examples:
        raise table.wrong("has a message with role = 'examples', but no [[examples]]")
    if places or not has_examples:
        return tuple(spoken)
    last = max((at for at, each in enumerate(spoken) if each.role == "user"), default=None)
    if last is None:
        raise table.wrong("has [[examples]] and no user message to put them before. Add one with role = 'examples'")
    return (*spoken[:last], Message("examples"), *spoken[last:])


def _message(table: Table, variables: Mapping[str, Variable]) -> Message:
    role, content, name = table.text("role"), table.text("content"), table.text("name") or None
    if role not in ROLES:
        raise table.wrong(f"must be one of {', '.join(ROLES)}; it is {role!r}", "role")
    if (role == "placeholder") != (name is not None):
        raise table.wrong("`name` is the variable of a placeholder, which needs one; other messages have none")
    if (role in ("placeholder", "examples")) == bool(content):
        raise table.wrong(f"must {'be left out' if content else 'say something'} for the role {role!r}", "content")
    if name is not None and (name not in variables or variables[name].type != "messages"):
        raise table.wrong(f'needs the variable {name!r} with the type messages: {name} = "messages"')
    return Message(cast("Role", role), content, name)


def _finder(table: Table, find_file: Find) -> Find:
    """Where an include is looked up: among the file's own partials, then in the folder."""
    partials = table.table("partials")
    for name, text in partials.items():
        if not isinstance(text, str):
            raise table.wrong(f"must be a text, not {type(text).__name__}", f"partials.{name}")

    def find(name: str) -> Piece | None:
        return Piece(partials[name].strip(), table.file, f"partials.{name}") if name in partials else find_file(name)

    return find


def _pieces(document: Document, spoken: list[Message], examples: tuple[Example, ...]) -> list[Piece]:
    """Every template of the file, with its place."""
    lines = document.lines or (None,) * len(spoken)
    pieces = [
        Piece(message.content, document.file, f"messages[{at}]", line)
        for at, (message, line) in enumerate(zip(spoken, lines, strict=True), start=1)
        if message.content
    ]
    for at, example in enumerate(examples, start=1):
        pieces.append(Piece(example.input, document.file, f"examples[{at}].input"))
        pieces.append(Piece(example.output, document.file, f"examples[{at}].output"))
    return pieces


def _check_declared(file: str, used: list[tuple[Piece, Uses]], variables: Mapping[str, Variable]) -> None:
    """Refuse names that nothing will ever be given for.

    Variables that are declared and not used are allowed: callers go on giving them while versions come and go.
    """
    for piece, each in used:
        for name in sorted(each.variables):
            if name not in variables:
                hint = did_you_mean(name, list(variables))
                raise PromptInvalid(f"{file}, {piece.part}: uses {name!r}, which [variables] does not declare{hint}.")
            if variables[name].type == "messages":
                raise PromptInvalid(f"{file}, {piece.part}: {name!r} holds messages; it goes into a placeholder.")
