"""The smallest instance of a JSON schema."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - Pydantic reads it
from typing import Any, Literal, Optional
from uuid import UUID  # noqa: TC003 - Pydantic reads it

from pydantic import BaseModel, Field

from superstep.providers.offline import minimal_instance


class Leaf(BaseModel):
    """A leaf, with every kind of constraint."""

    kind: Literal["a", "b"]
    word: str = Field(min_length=12, max_length=14)
    short: str = Field(max_length=2)
    count: int = Field(gt=3, le=9)
    even: int = Field(ge=5, multiple_of=4)
    share: float = Field(gt=0, lt=0.1)
    below: int = Field(lt=-2)
    on: date
    key: UUID
    flag: bool


class Tree(BaseModel):
    """Refers to itself."""

    leaf: Leaf
    left: Optional[Tree]  # noqa: UP045 - a forward reference cannot be used with | at run time
    many: list[Leaf] = Field(min_length=2)
    pair: tuple[int, str]
    either: int | str
    table: dict[str, int]
    anything: Any
    named: str = "default"


def test_the_smallest_instance_satisfies_its_schema() -> None:
    schema = Tree.model_json_schema()
    found = minimal_instance(schema)
    tree = Tree.model_validate(found)
    assert tree.left is None
    assert "named" not in found
    assert found == minimal_instance(schema)


def test_the_smallest_instance_of_untyped_schemas() -> None:
    assert minimal_instance({}) == {}
    assert minimal_instance({"type": ["string", "null"]}) is None
    assert minimal_instance({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}]}) == {"a": 0}
    assert minimal_instance({"default": [1]}) == [1]
