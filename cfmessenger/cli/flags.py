"""Settings as command-line flags of the same names (`CFM_PORT` is `--port`).

Owns the flags and the exit code of bad settings (3, one line). A flag only overrides
its variable; what a value means is `settings.py`'s business. Secrets have no flag, and
a URL with a password in it is refused as one, because every user of the machine can
read a process's arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import click

from cfmessenger.cli.settings_help import default_of
from cfmessenger.environment import FILE, SettingsError, variable
from cfmessenger.settings import ABOUT, Settings

EXIT_SETTINGS = 3

P = ParamSpec("P")
R = TypeVar("R")


def with_settings(
    *fields: str, hidden: Collection[str] = ()
) -> Callable[[Callable[Concatenate[Settings, P], R]], Callable[P, R]]:
    """Gives a click command these settings as flags, and a loaded `Settings` first.

    The `hidden` are flags too, but only `--help-all` tells of them. Flags win over the
    environment. Settings which do not load end the process with exit code 3 and one
    line on stderr before the command is called.
    """
    flags = [f for f in Settings.__struct_fields__ if f in fields or f in hidden]

    def decorate(command: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
        @wraps(command)
        def run(*args: P.args, **options: P.kwargs) -> R:
            given = {field: options.pop(_parameter(field), None) for field in flags}
            return command(settings_or_exit(given), *args, **options)

        decorated: Callable[P, R] = run
        if hidden:
            decorated = _help_all(decorated)
        for field in reversed(flags):
            default = f"[default: {default_of(field)}; {variable(field)}]"
            decorated = click.option(
                f"--{field.replace('_', '-')}",
                _parameter(field),
                metavar="TEXT",
                help=f"{ABOUT[field].help}  {default}",
                hidden=field in hidden,
            )(decorated)
        return decorated

    return decorate


def flags_but(*fields: str) -> list[str]:
    """Every setting that may be a flag, except these."""
    return [
        field
        for field, about in ABOUT.items()
        if about.help and about.hides != "whole" and field not in fields
    ]


def _help_all(command: Callable[P, R]) -> Callable[P, R]:
    def tell(context: click.Context, option: click.Parameter, given: bool) -> None:
        if given and not context.resilient_parsing:
            for each in context.command.params:
                each.hidden = False  # type: ignore[attr-defined]
            click.echo(context.get_help())
            context.exit()

    return click.option(
        "--help-all",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=tell,
        help="Show every setting and exit.",
    )(command)


def settings_or_exit(flags: dict[str, object] | None = None) -> Settings:
    """The settings of this process, or exit code 3 and one line on stderr."""
    env = dict(os.environ)
    try:
        for field, value in (flags or {}).items():
            if value is not None:
                env[variable(field)] = _harmless(field, str(value))
                env.pop(variable(field) + FILE, None)
        return Settings.load(env)
    except SettingsError as error:
        click.echo(f"cfmessenger: {error}", err=True)
        sys.exit(EXIT_SETTINGS)


def _parameter(field: str) -> str:
    return f"setting_{field}"


def _harmless(field: str, value: str) -> str:
    if ABOUT[field].hides == "password":
        try:
            secret = urlsplit(value).password or "password=" in urlsplit(value).query
        except ValueError:
            secret = True
        if secret:
            raise SettingsError(
                f"{variable(field)}: a password belongs in the variable, not a flag"
            )
    return value
