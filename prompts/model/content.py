"""What a version of a prompt says, as plain data, and the digest that identifies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REQUIRED", "ROLES", "Content", "Example", "Message", "Role", "Variable"]

Role: TypeAlias = Literal["system", "user", "assistant", "placeholder", "examples"]
ROLES: tuple[str, ...] = get_args(Role)


class _Required:
    """The default of a variable that has none. A class of its own, because `None` is a value."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the list of messages.

    Attributes:
        role: the speaker; `placeholder` stands for the messages of a variable, `examples` for the examples.
        content: a template; empty for `placeholder` and `examples`.
        name: the variable of a placeholder.
    """

    role: Role
    content: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One example: what a user would say, and the answer wanted. Both are templates."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Variable:
    """What must be given to render.

    Attributes:
        type: one of `prompts.model.variables.TYPES`.
        nullable: whether `None` will do; written `type?`.
        default: used when it is not given, as JSON data; `REQUIRED` if it must be given.
        description: for people.
    """

    type: str
    nullable: bool = False
    default: Any = REQUIRED
    description: str = ""

    @property
    def declared(self) -> str:
        """The type as it is written in a file."""
        return f"{self.type}?" if self.nullable else self.type

    def dump(self) -> dict[str, Any]:
        """As JSON data."""
        found = {"type": self.declared, "description": self.description}
        return found if self.default is REQUIRED else {**found, "default": self.default}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Variable:
        """The inverse of `dump`."""
        kind = dumped["type"]
        default = dumped.get("default", REQUIRED)
        return cls(kind.removesuffix("?"), kind.endswith("?"), default, dumped.get("description", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All of a version that can make a difference to what a model is asked, bundled so that it never changes.

    Attributes:
        messages: in order.
        variables: by name.
        includes: text of every template that the others include, by the name they include it by.
        examples: rendered in place of the message with the role `examples`.
        route: the model route that the version is meant for, if any.
        parameters: arguments for the model: temperature, …
    """

    messages: tuple[Message, ...]
    variables: Mapping[str, Variable] = field(default_factory=dict)
    includes: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    route: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "messages": [asdict(each) for each in self.messages],
            "variables": {name: each.dump() for name, each in self.variables.items()},
            "includes": dict(self.includes),
            "examples": [asdict(each) for each in self.examples],
            "route": self.route,
            "parameters": dict(self.parameters),
        }

    @classmethod
    def load(cls, dumped: Any, title: str) -> Content:
        """The inverse of `dump`.

        Raises:
            PromptInvalid: It was not made by the `dump` of this release.
        """
        try:
            return cls(
                messages=tuple(Message(**each) for each in dumped["messages"]),
                variables={name: Variable.load(each) for name, each in dumped["variables"].items()},
                includes=dumped["includes"],
                examples=tuple(Example(**each) for each in dumped["examples"]),
                route=dumped["route"],
                parameters=dumped["parameters"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise PromptInvalid(
                f"Prompt {title} is stored in a form that this release cannot read. Upgrade superstep-runtime, or add "
                f"the prompt again with `runtime prompts add`."
            ) from error

    @property
    def text(self) -> str:
        """Canonical JSON: equal for equal contents, whatever the order of keys."""
        return json.dumps(self.dump(), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()
