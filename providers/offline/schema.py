"""The smallest instance of a JSON schema. Pure; covers the part of the standard that Pydantic and TypedDict emit.

See JSON Schema 2020-12, validation vocabulary. `pattern`, `not`, `if` and cross-field constraints are not solved: a
schema that needs them needs a rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["minimal_instance"]

PLACEHOLDER = "offline"

_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "email": "offline@example.com",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}

Schema = Mapping[str, Any]


def minimal_instance(schema: Schema, *, root: Schema | None = None) -> Any:
    """Build the smallest value that the schema accepts; the same one at every call.

    Order of preference: `const`, `default`, first of `enum`, `null` where allowed, first alternative, then the smallest
    value of the type. Optional properties are left out.

    Args:
        schema: JSON Schema, as vendors take it for structured output and for arguments of tools.
        root: The document that `$ref` pointers start from; the schema itself if omitted.
    """
    root = schema if root is None else root
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        # null also ends the recursion of a type that contains itself.
        nullable = any(_resolve(option, root).get("type") == "null" for option in alternatives)
        return None if nullable else minimal_instance(alternatives[0], root=root)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, list):
        kind = "null" if "null" in kind else kind[0]
    if kind == "object":
        return _object(schema, root)
    if kind == "array":
        return _array(schema, root)
    return _scalar(kind, schema)


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow `$ref` and merge `allOf`; keywords beside them win."""
    merged: dict[str, Any] = {}
    if "$ref" in schema:
        merged.update(_resolve(_pointer(schema["$ref"], root), root))
    for part in schema.get("allOf", ()):
        resolved = _resolve(part, root)
        properties = {**merged.get("properties", {}), **resolved.get("properties", {})}
        required = [*merged.get("required", ()), *resolved.get("required", ())]
        merged.update(resolved)
        merged.update({"properties": properties, "required": required} if properties else {})
    merged.update({key: value for key, value in schema.items() if key not in ("$ref", "allOf")})
    return merged


def _pointer(reference: str, root: Schema) -> Schema:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")] if part else node
    return node  # type: ignore[no-any-return]


def _object(schema: Schema, root: Schema) -> dict[str, Any]:
    properties: Schema = schema.get("properties", {})
    names = dict.fromkeys(schema.get("required", ()))
    return {name: minimal_instance(properties.get(name, {}), root=root) for name in names}


def _array(schema: Schema, root: Schema) -> list[Any]:
    prefix: list[Schema] = schema.get("prefixItems", [])
    count = max(schema.get("minItems", 0), 0)
    items = schema.get("items")
    rest: Schema = items if isinstance(items, Mapping) else {}
    return [minimal_instance(prefix[i] if i < len(prefix) else rest, root=root) for i in range(count)]


def _scalar(kind: str | None, schema: Schema) -> Any:
    if kind == "string":
        return _string(schema)
    if kind == "integer":
        return int(_number(schema, whole=True))
    if kind == "number":
        return _number(schema, whole=False)
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    return {}  # an unconstrained schema accepts anything


def _string(schema: Schema) -> str:
    text = _FORMATS.get(schema.get("format", ""), PLACEHOLDER)
    text = text.ljust(schema.get("minLength", 0), ".")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _number(schema: Schema, *, whole: bool) -> float:
    """Return the first of a few telling candidates that satisfies every bound and `multipleOf`."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    floor, ceiling = low if above is None else above, high if below is None else below
    candidates: list[float] = [0, *(bound for bound in (low, high) if bound is not None)]
    candidates += [above + 1] if above is not None else []
    candidates += [below - 1] if below is not None else []
    candidates += [(floor + ceiling) / 2] if floor is not None and ceiling is not None else []
    step = schema.get("multipleOf") or (1 if whole else None)
    if step:
        candidates = [rounded(each / step) * step for each in candidates for rounded in (math.ceil, math.floor)]
    for value in candidates:
        if (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
            and (below is None or value < below)
        ):
            return value
    return 0
