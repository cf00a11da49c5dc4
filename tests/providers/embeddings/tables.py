"""Tables of `[embeddings]`, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


KEY = "sk-very-secret-0123456789"


OPENAI = {"provider": "openai", "model": "m", "dimensions": 8}


SERVED = {**OPENAI, "provider": "openai-compatible", "base_url": "http://127.0.0.1:1/v1"}


def place(path: Sequence[str | int]) -> str:
    return f"runtime.toml, line 7: {'.'.join(map(str, path))}"
