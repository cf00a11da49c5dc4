"""As which account of the operating system an embedded server runs.

An ordinary user's server runs as that user. PostgreSQL refuses to run as root, so root's runs as an account of its own:
a number that no user of the machine has, derived from the server's folder. So no process that happens to run as a
shared account, such as `nobody`, can connect to the server, read its files or look into its memory.

Creating a cluster needs a name in the password database, since `initdb` looks itself up. It is created by a named
account in the server's *group*, inside a folder that only this group can enter, and then given to the server's account.
Other processes of the named account are not in the group: they can neither enter nor trace.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import grp
    import pwd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Account", "account", "digest", "is_shared", "named_account"]

# Numbers that no distribution and no container runtime gives out, and, where only 16 bits are mapped, those that
# systemd gives to services for as long as they run.
_NUMBERS = (range(2_000_000_000, 2_100_000_000), range(61_184, 65_520))
_TRIED = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """The operating-system account a server runs as; `switch` says that it is not the caller's."""

    uid: int
    gid: int
    switch: bool


def account(home: Path, owner: int | None) -> Account:
    """The account for the server of a folder, whose data belongs to `owner` if there is any yet."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if owner is not None and owner != 0 and not is_shared(owner):
        return Account(owner, owner, switch=True)
    free = next((each for each in _candidates(home) if not is_shared(each)), None)
    if free is None:
        raise PermissionError(1, "no account is free for the server", str(home))
    return Account(free, free, switch=True)


def is_shared(number: int) -> bool:
    """Whether a user or group of this machine has the number, so that processes may run as it that are not ours."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return True
    return number == 65534  # what numbers without a mapping are shown as


def named_account() -> int:
    """An account with a name, and no rights: `nobody`, or the first that is not root."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid), 65534)


def digest(path: Path) -> str:
    """A short name for an absolute path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _candidates(home: Path) -> Iterator[int]:
    start = int(digest(home), 16)
    mapped = [_mapped(Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid")]
    for numbers in _NUMBERS:
        if all(any(numbers[0] in each and numbers[-1] in each for each in ranges) for ranges in mapped):
            yield from (numbers[(start + n) % len(numbers)] for n in range(_TRIED))


def _mapped(table: Path) -> list[range]:
    """The numbers that exist here. In a container they may be few."""
    try:
        rows = [list(map(int, line.split())) for line in table.read_text().splitlines()]
    except OSError:
        return [range(2**31)]
    return [range(first, first + length) for first, _, length in rows]
