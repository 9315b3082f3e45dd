"""`cfmessenger up`: the whole messenger on this machine, one process to start and stop.

And `head`, `node`, `gateway`: the roles of a cluster of several (docs/cluster.md).
"""

from __future__ import annotations

import click

from cfmessenger.cli.flags import flags_but, with_settings
from cfmessenger.cli.role import GATEWAY, HEAD, NODE, UP, run_role
from cfmessenger.settings import Settings

# What somebody who starts it for the first time may want to say; `--help-all` has all.
_TOLD = (
    *("host", "port", "gateways", "data_dir", "valkey_url", "ray_address"),
    *("placement", "hibernate_after", "open_rooms", "users", "bots_active"),
    *("ai_base_url", "ai_model", "log_format", "log_level"),
)
_HEAD = (
    *("valkey_url", "node_address", "ray_port", "ray_name", "ray_store_url"),
    "data_dir",
)
_NODE = (
    *("valkey_url", "node_address", "namespace_port", "ray_address", "ray_name"),
    *("placement", "pool_size", "hibernate_after", "data_dir"),
)
_GATEWAY = ("valkey_url", "database_url", "host", "port", "gateways", "data_dir")

_take_over = click.option(
    "--take-over",
    is_flag=True,
    help="Use this Valkey although another cluster does; that one ends.",
)


@click.command()
@_take_over
@with_settings(*_TOLD, hidden=flags_but(*_TOLD))
def up(settings: Settings, take_over: bool) -> None:
    """Start everything on this machine and keep it running until Ctrl-C.

    Starts Valkey and Ray (unless CFM_VALKEY_URL, CFM_RAY_ADDRESS name some), the
    namespace server and the gateways. One per data folder.
    """
    run_role(UP, settings, take_over)


@click.command()
@with_settings(*_HEAD, hidden=flags_but(*_HEAD))
def head(settings: Settings) -> None:
    """Be the head of a cluster: Ray's control store. No room lives here.

    What it knows is kept in Valkey, so that it may end and start again, here or
    elsewhere. One per cluster; needs CFM_VALKEY_URL.
    """
    run_role(HEAD, settings)


@click.command()
@_take_over
@with_settings(*_NODE, hidden=flags_but(*_NODE))
def node(settings: Settings, take_over: bool) -> None:
    """Be a node of a cluster: rooms live here.

    Starts a Ray node, which joins the head that Valkey names (or CFM_RAY_ADDRESS), and
    a namespace server. On SIGTERM its rooms go to other nodes first. Needs
    CFM_VALKEY_URL.
    """
    run_role(NODE, settings, take_over)


@click.command()
@with_settings(*_GATEWAY, hidden=flags_but(*_GATEWAY))
def gateway(settings: Settings) -> None:
    """Serve clients: HTTP and WebSockets, as many gateways as --gateways says.

    Finds the nodes in Valkey. Needs CFM_VALKEY_URL, and PostgreSQL in
    CFM_DATABASE_URL, since every gateway must see the same users and orders.
    """
    run_role(GATEWAY, settings)
