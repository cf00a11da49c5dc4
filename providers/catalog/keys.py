"""Keys of providers, which are read from environment variables and from nowhere else."""

from __future__ import annotations

import os

from superstep.runtime.faults import ConfigError

__all__ = ["checked_key", "key_in"]


def key_in(variable: str | None) -> str | None:
    """The key in a variable, without the blanks and line breaks around it; `None` if there is none."""
    return (os.environ.get(variable, "").strip() or None) if variable else None


def checked_key(variable: str | None, where: str) -> str | None:
    """The key in a variable, fit to be sent.

    Raises:
        ConfigError: it has characters that no key has and no HTTP header takes. HTTP libraries would complain by
            quoting all of it. The message names the variable and `where` it was configured, never the value.
    """
    key = key_in(variable)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{where}: the key in {variable} has invisible or non-ASCII characters, which no key has: they may have "
            f"come along when it was pasted. Set {variable} again."
        )
    return key
