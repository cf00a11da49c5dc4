"""A request as a vendor saw it."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Api", "Request", "parse", "vector"]

Api = Literal["openai", "anthropic", "embeddings", "unknown"]
State = Literal["arrived", "stalled", "answered", "broken", "gone"]

_ENDINGS: dict[str, Api] = {"/chat/completions": "openai", "/messages": "anthropic", "/embeddings": "embeddings"}


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        method: of HTTP.
        path: with the query.
        headers: names in lower case.
        body: the JSON document; `None` if there was none.
        connection: number of the connection that it came on.
        state: how far its answer is: "arrived"; "stalled", waiting as scripted; "answered" in full; "broken" off by the
            script or by `kill`; or "gone": the client hung up before the answer ended.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    connection: int = 0
    state: State = field(default="arrived", compare=False)

    @property
    def api(self) -> Api:
        """Whose protocol it is in."""
        path = self.path.partition("?")[0]
        return next((api for ending, api in _ENDINGS.items() if path.endswith(ending)), "unknown")

    @property
    def key(self) -> str | None:
        """The key that came with it, in whichever header."""
        given = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        return given or None

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return bool(self.body.get("stream"))

    @property
    def text(self) -> str:
        """Text of the last message."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return "".join(block.get("text", "") for block in content)

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        given = self.body["input"]
        return [given] if isinstance(given, str) else list(given)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools on offer: `name` and `schema`."""
        offered = [tool.get("function", tool) for tool in self.body.get("tools") or ()]
        return [{"name": tool["name"], "schema": tool.get("parameters", tool.get("input_schema"))} for tool in offered]

    @property
    def schema_tool(self) -> str | None:
        """The tool that must be called, if one must."""
        choice = self.body.get("tool_choice")
        if not isinstance(choice, dict):
            return self.tools[0]["name"] if choice == "required" else None
        named = choice.get("function", choice).get("name")
        return named or (self.tools[0]["name"] if choice.get("type") == "any" else None)

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must have, if any: of the tool that must be called, or of the output."""
        if (name := self.schema_tool) is not None:
            return next(tool["schema"] for tool in self.tools if tool["name"] == name)
        form = self.body.get("response_format") or (self.body.get("output_config") or {}).get("format")
        return (form.get("json_schema") or form).get("schema") if form else None

    @property
    def schema_name(self) -> str | None:
        """The name of that schema."""
        if (name := self.schema_tool) is not None:
            return name
        named: str | None = ((self.body.get("response_format") or {}).get("json_schema") or {}).get("name")
        return named or (self.schema or {}).get("title")


def parse(head: bytes, body: bytes, connection: int) -> Request:
    """Read the head and the body of an HTTP/1.1 request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Request(method, path, headers, json.loads(body) if body else None, connection)


def vector(text: str, dimensions: int) -> list[float]:
    """What the vendor's embedding of a text is: the same for equal texts, different for others; exact in 32 bits."""
    digests = (hashlib.sha256(f"{at}:{text}".encode()).digest() for at in itertools.count())
    stream = itertools.chain.from_iterable(digests)
    return [(byte - 127) / 128 for byte in itertools.islice(stream, dimensions)]
