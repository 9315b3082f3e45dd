"""Settings as command-line flags of the same names (`CFM_PORT` is `--port`).

Owns the flags and the exit code of bad settings (3, one line). A flag only overrides
its variable; what a value means is `settings.py`'s business. Secrets have no flag, and
a URL with a password in it is refused as one, because every user of the machine can
read a process's arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import click

from cfmessenger.settings import PREFIX, Settings, SettingsError
from cfmessenger.settings_help import help_of

EXIT_SETTINGS = 3

_SECRET = ("turnstile_secret_key", "ai_key")
_HIDDEN = ("crash_at",)
_URLS = ("valkey_url", "valkey_replica_url", "database_url", "ai_base_url")

P = ParamSpec("P")
R = TypeVar("R")


def with_settings(
    command: Callable[Concatenate[Settings, P], R],
) -> Callable[P, R]:
    """Gives a click command every setting as a flag and a loaded `Settings` first.

    Flags win over the environment. Settings which do not load end the process with
    exit code 3 and one line on stderr before `command` is called.
    """

    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        given = {field: options.pop(_parameter(field), None) for field in _flags()}
        return command(settings_or_exit(given), *args, **options)

    decorated: Callable[P, R] = run
    for field in reversed(_flags()):
        decorated = click.option(
            f"--{field.replace('_', '-')}",
            _parameter(field),
            metavar="TEXT",
            help=f"{help_of(field)} [{PREFIX}{field.upper()}]",
        )(decorated)
    return decorated


def settings_or_exit(flags: dict[str, object] | None = None) -> Settings:
    """The settings of this process, or exit code 3 and one line on stderr."""
    env = dict(os.environ)
    try:
        for field, value in (flags or {}).items():
            if value is not None:
                env[PREFIX + field.upper()] = _harmless(field, str(value))
        return Settings.load(env)
    except SettingsError as error:
        click.echo(f"cfmessenger: {error}", err=True)
        sys.exit(EXIT_SETTINGS)


def _flags() -> list[str]:
    hidden = _SECRET + _HIDDEN
    return [field for field in Settings.__struct_fields__ if field not in hidden]


def _parameter(field: str) -> str:
    return f"setting_{field}"


def _harmless(field: str, value: str) -> str:
    if field in _URLS:
        try:
            secret = urlsplit(value).password or "password=" in urlsplit(value).query
        except ValueError:
            secret = True
        if secret:
            name = PREFIX + field.upper()
            raise SettingsError(
                f"{name}: a password belongs in the variable, not a flag"
            )
    return value
