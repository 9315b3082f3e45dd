"""Which bots are there now: two keys in Valkey, the rotation and the switch."""

from __future__ import annotations

from collections.abc import Collection

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey


async def in_rotation(kv: Valkey, directory: Directory, active: int) -> list[Profile]:
    """The bots that are there now, in the directory's order; none if switched off.

    `active` is the setting: 0 means that there are none whatever Valkey remembers.
    Raises `Unavailable`.
    """
    if not active:
        return []
    members, enabled = await kv.ask_all(
        ("SMEMBERS", keys.BOTS_ACTIVE), ("GET", keys.BOT_ENABLED)
    )
    return shown(members, enabled, directory)


def shown(
    members: Collection[bytes], enabled: bytes | None, directory: Directory
) -> list[Profile]:
    """The same of what was read: the rotation, and the switch (`0`: off)."""
    if enabled == b"0":
        return []
    return [bot for bot in directory.bots if bot.id.encode() in members]
