"""A group of commands that is a command itself: `runtime ingest FILE` beside `runtime ingest status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT", "WithDefault"]

DEFAULT = "files"


class WithDefault(click.Group):
    """Arguments that name none of its commands are those of the command `DEFAULT`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        at = self._first_of_command(args)
        named = at < len(args) and args[at] in self.commands
        if not (named or (at < len(args) and args[at] in ctx.help_option_names) or not args):
            args.insert(at, DEFAULT)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All but the default, which is described by the group's own help."""
        return [name for name in super().list_commands(ctx) if name != DEFAULT]

    def _first_of_command(self, args: Sequence[str]) -> int:
        """Behind the group's own options, which may come first."""
        takes = {
            name: not (isinstance(each, click.Option) and each.is_flag) for each in self.params for name in each.opts
        }
        at = 0
        while at < len(args) and args[at].partition("=")[0] in takes:
            name, equals, _ = args[at].partition("=")
            at += 2 if takes[name] and not equals else 1
        return at
