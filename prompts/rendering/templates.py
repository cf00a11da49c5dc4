"""The template engine: Jinja's sandbox, strict about names, and without anything that comes out differently twice.

Only texts of a prompt's file are ever parsed as templates. Values of variables are printed, never parsed, whatever they
contain. The sandbox keeps templates away from Python's inner life. To compile one is bounded: its length with all that
it includes, its depth, and the numbers and texts that it computes. To render one is not, since loops may be long; that
is in the hands of those who may add prompts. See https://jinja.palletsprojects.com/en/stable/sandbox/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import StrictUndefined, TemplateError, TemplateRuntimeError, TemplateSyntaxError, Undefined, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from superstep.prompts.model.values import as_json, as_text
from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["Find", "Piece", "Uses", "sandbox", "template", "uses", "what_failed"]

# The line of a block tag leaves nothing behind, so that `if` and `for` make no blank lines. An include is different:
# what comes after it belongs on the next line, which is what jinja2's mark `+` is for. Comments and raw text are
# skipped.
_LINE_OF_INCLUDE = re.compile(
    r"\{#.*?(?:#\}|\Z)|\{%-?\s*raw\b.*?(?:\bendraw\s*-?%\}|\Z)|(\{%-?\s*include\b[^%]*?)(?<![-+])%\}", re.DOTALL
)
_LONGEST = 1_000_000  # characters of a template with all it includes, or of what it computes
_MOST_INCLUDES = 1_000
_MOST_BITS = 4_096  # of a number that it computes


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, which would compute `10 ** 10 ** 9` already when it compiles."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(each) for each in (left, right) if isinstance(each, (str, list, tuple))]
        numbers = [each for each in (left, right) if isinstance(each, int)]
        if operator == "**" and len(numbers) == 2:
            too_large = left.bit_length() * max(right, 0) > _MOST_BITS
        elif sizes and numbers:
            too_large = sizes[0] * max(numbers[0], 0) > _LONGEST
        else:
            too_large = len(numbers) == 2 and left.bit_length() + right.bit_length() > _MOST_BITS
        if too_large:
            raise TemplateRuntimeError(f"the result of {operator!r} is too large")
        return super().call_binop(context, operator, left, right)


def sandbox() -> Environment:
    """An environment for the templates of one version."""
    made = _Sandbox(
        undefined=StrictUndefined,
        autoescape=False,  # text for a model, not a page for a browser
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["json"] = made.filters["tojson"] = as_json
    del made.filters["random"], made.globals["lipsum"]
    return made


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Undefined) else as_text(value)


def what_failed(error: Exception) -> str:
    """What to say of an error of rendering: the engine's own words, which have no values in them, else the class."""
    return str(error) if isinstance(error, TemplateError) else type(error).__name__


@dataclass(frozen=True, slots=True)
class Piece:
    """A template's text and where it stands: a file, a part of the file, and the part's first line if known."""

    text: str
    file: str
    part: str
    line: int | None = None

    def at(self, line: int) -> str:
        """The place of a line of the text."""
        if self.line is None:
            return f"{self.file}, {self.part}, line {line}"
        return f"{self.file}, line {self.line + line - 1}"


Find: TypeAlias = Callable[[str], Piece | None]
"""Looks up what an include names."""


@dataclass(slots=True)
class Uses:
    """What a template needs: names of variables, and texts of includes by name."""

    variables: set[str] = field(default_factory=set)
    includes: dict[str, str] = field(default_factory=dict)


def uses(piece: Piece, find: Find) -> Uses:
    """What a template needs, includes and their includes too.

    Raises:
        PromptInvalid: See `template`.
    """
    reader = _Reader(sandbox(), find)
    with _bounded(piece):
        return Uses(find_undeclared_variables(reader.whole(piece)), reader.includes)


def template(engine: Environment, piece: Piece, find: Find) -> Template:
    """Compile a template together with all it includes, which is what `uses` looks at too.

    Raises:
        PromptInvalid: Bad syntax, an unknown filter, an unsafe attribute, an include that is missing, cyclic or decided
            at run time. The message names the place.
    """
    with _bounded(piece):
        return engine.from_string(_Reader(engine, find).whole(piece))


@contextmanager
def _bounded(piece: Piece) -> Iterator[None]:
    """Names the template of which Python's own bounds are reached."""
    try:
        yield
    except (RecursionError, MemoryError, SyntaxError):
        raise PromptInvalid(f"{piece.at(1)}: the template is nested too deep. Split it, or make it flatter.") from None


class _Reader(NodeTransformer):
    """Puts the statements of includes in place of them, so that loops and `set` around an include are accounted for."""

    def __init__(self, engine: Environment, find: Find) -> None:
        self.includes: dict[str, str] = {}
        self._engine = engine
        self._find = find
        self._including: list[str] = []
        self._included = 0
        self._length = 0
        self._piece = Piece("", "", "")

    def whole(self, piece: Piece) -> nodes.Template:
        """The parsed template with everything it includes."""
        tree = self.read(piece)
        tree.set_environment(self._engine)
        try:
            self._engine.compile(tree)
        except TemplateSyntaxError as error:  # of the parts together: a block that is there twice
            raise PromptInvalid(f"{piece.at(1)}: {error.message}") from error
        return tree

    def read(self, piece: Piece) -> nodes.Template:
        """The parsed template, with the statements of what it includes in place of the includes."""
        outer, self._piece = self._piece, piece
        self._length += len(piece.text)
        try:
            if self._length > _LONGEST:
                raise PromptInvalid(f"{piece.at(1)}: with what it includes, it is longer than {_LONGEST:,} characters.")
            text = _LINE_OF_INCLUDE.sub(lambda found: found[0] if found[1] is None else f"{found[1]}+%}}", piece.text)
            self._engine.compile(text)  # an unknown filter is noticed only here
            tree = self._engine.parse(text)
            for attribute in tree.find_all(nodes.Getattr):
                if attribute.attr.startswith("_"):
                    raise self._wrong(attribute, f"the attribute {attribute.attr!r} is not for templates.")
            return self.visit(tree)  # type: ignore[no-any-return]  # jinja2 leaves it open
        except TemplateSyntaxError as error:
            raise PromptInvalid(f"{piece.at(error.lineno)}: {error.message}") from error
        finally:
            self._piece = outer

    def visit_Include(self, node: nodes.Include) -> nodes.Node:
        """Replace an include by what it includes."""
        name = node.template.value if isinstance(node.template, nodes.Const) else None
        if not isinstance(name, str) or node.ignore_missing or not node.with_context:
            raise self._wrong(
                node, 'an include must be {% include "name" %}, with the name in quotes and nothing more.'
            )
        if name in self._including:
            circle = " includes ".join(repr(each) for each in [*self._including[self._including.index(name) :], name])
            raise self._wrong(node, f"{circle}. Break the circle.")
        piece = self._find(name)
        if piece is None:
            raise self._wrong(
                node, f"includes {name!r}, which is neither one of its [partials] nor a file of the folder."
            )
        self.includes[name] = piece.text
        self._included += 1
        if self._included > _MOST_INCLUDES:
            raise self._wrong(node, f"more than {_MOST_INCLUDES:,} includes, counted as often as they come about.")
        self._including.append(name)
        inner = self.read(piece)
        self._including.pop()
        return nodes.Scope(inner.body, lineno=node.lineno)

    def visit_Extends(self, node: nodes.Stmt) -> nodes.Node:
        """Refuse what would need a second kind of file."""
        raise self._wrong(node, 'templates cannot extend or import one another. Use {% include "name" %}.')

    visit_Import = visit_FromImport = visit_Extends

    def _wrong(self, node: nodes.Node, what: str) -> PromptInvalid:
        return PromptInvalid(f"{self._piece.at(node.lineno)}: {what}")
