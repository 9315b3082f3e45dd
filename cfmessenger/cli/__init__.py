"""The `cfmessenger` command: which subcommands exist and where they live.

Owns the group and the way a subcommand is found; a subcommand's module is imported only
when that command is asked for, so that `--help` and shell completion stay fast. Nothing
else of the product may be imported here.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from cfmessenger import __version__


class _Entry(NamedTuple):
    where: str  # module:attribute
    summary: str
    hidden: bool = False


_COMMANDS = {
    "up": _Entry("cfmessenger.cli.up:up", "Start everything on this machine."),
    "head": _Entry("cfmessenger.cli.up:head", "Be the head of a cluster."),
    "node": _Entry("cfmessenger.cli.up:node", "Be a node of it: rooms live here."),
    "gateway": _Entry("cfmessenger.cli.up:gateway", "Be a gateway of it."),
    "drain": _Entry(
        "cfmessenger.cli.drain:drain", "Move this node's rooms to other nodes."
    ),
    "status": _Entry("cfmessenger.cli.status:status", "Show a cluster's machines."),
    "doctor": _Entry("cfmessenger.cli.doctor:doctor", "Say what is not as it should."),
    "backup": _Entry("cfmessenger.cli.backup:backup", "Copy all that is kept."),
    "restore": _Entry("cfmessenger.cli.restore:restore", "Put a backup back."),
    "chat": _Entry("cfmessenger.cli.chat:chat", "Talk in a room or to a person."),
    "rooms": _Entry("cfmessenger.cli.rooms:rooms", "List the rooms that are awake."),
    "placement": _Entry(
        "cfmessenger.cli.placement:placement", "Show or change where rooms live."
    ),
    "bots": _Entry(
        "cfmessenger.cli.bots:bots", "Show the bots, or switch them off and on."
    ),
    "load": _Entry("cfmessenger.cli.load:load", "Make load on it, and check it."),
    # Processes which these start and supervise.
    "gateway-process": _Entry("cfmessenger.cli.serve:gateway", "", hidden=True),
    "namespace-process": _Entry("cfmessenger.cli.serve:namespace", "", hidden=True),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in _COMMANDS.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), entry.where
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        # click's own would import every module for one line of its help.
        rows = [(name, _COMMANDS[name].summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__, prog_name="cfmessenger", message="%(prog)s %(version)s"
)
def main() -> None:
    """A chat messenger of 2005: rooms are durable objects on Ray actors.

    Settings are CFM_* environment variables, or flags of the same names.
    """
