"""A command with options of its own, in whose place a subcommand may stand: `prepare --videos ...`, `prepare vggsound ...`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class CommandOrSubcommand(TyperGroup):
    """For a `Typer` app with `invoke_without_command`; its callback returns at once when `invoked_subcommand` is set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the options; none is required of those who name a subcommand."""
        ctx.resilient_parsing = bool(args) and args[0] in self.commands
        try:
            return super().parse_args(ctx, args)
        finally:
            ctx.resilient_parsing = False
