"""Secrets by reference: what an actor's process reads where it runs.

Who has an actor made says nothing secret, for Ray keeps it. So each machine gives its
Ray processes what they need to know: the roles write it into a private file which
`CFMX_SECRETS` names, and who runs a Ray of their own sets the same `CFM_*` variables
for its workers as for a node. Must not write, or log, what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from cfmessenger.environment import FILE, SettingsError, variable
from cfmessenger.settings import Settings
from cfmessenger.tls import Trust

SECRETS = "CFMX_SECRETS"
"""Names the file: JSON of `CFM_*` variables."""

FIELDS = (
    *("valkey_url", "valkey_ca", "valkey_cert", "valkey_key"),
    *("tls_ca", "tls_cert", "tls_key"),
    *("ai_base_url", "ai_model", "ai_key"),  # of guests, who ask for them by name
)


def kept_for_actors(env: Mapping[str, str]) -> bytes:
    """What the file holds, of an environment with all settings."""
    names = map(variable, FIELDS)
    return msgspec.json.encode({name: env[name] for name in names if env.get(name)})


def trust(env: Mapping[str, str]) -> Trust | None:
    """By which this machine's processes trust others; None: all is clear. Raises
    `SettingsError`."""
    names = [variable(field) for field in ("tls_ca", "tls_cert", "tls_key")]
    files = Settings.load({name: env[name] for name in names if name in env}).tls
    return None if files is None else Trust(files)


def own(env: Mapping[str, str]) -> Settings:
    """These settings as this machine has them, all others as by default. Raises
    `SettingsError`; also if it says nothing of a Valkey."""
    named = env.get(SECRETS)
    if named:
        try:
            said: Mapping[str, str] = msgspec.json.decode(
                Path(named).read_bytes(), type=dict[str, str]
            )
        except (OSError, msgspec.MsgspecError) as error:
            why = error.strerror if isinstance(error, OSError) else "not as written"
            raise SettingsError(f"{SECRETS}: cannot be read: {why}") from None
    else:
        said = env
    names = {variable(field) for field in FIELDS}
    names |= {name + FILE for name in names}
    found = Settings.load({n: text for n, text in said.items() if n in names})
    if found.valkey_url is None:
        raise SettingsError(
            "CFM_VALKEY_URL: not set for the workers of this Ray; actors read it, or "
            "CFM_VALKEY_URL_FILE, where they run"
        )
    return found
