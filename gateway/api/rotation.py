"""Which bots are there now: two keys in Valkey, the rotation and the switch."""

from __future__ import annotations

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.storage import keys
from cfmessenger.storage.valkey_kv import Valkey, reachable


async def in_rotation(kv: Valkey, directory: Directory, active: int) -> list[Profile]:
    """The bots that are there now, in the directory's order; none if switched off.

    `active` is the setting: 0 means that there are none whatever Valkey remembers.
    Raises `Unavailable`.
    """
    if not active:
        return []
    with reachable():
        async with kv.pipeline(transaction=False) as pipe:
            pipe.smembers(keys.BOTS_ACTIVE)
            pipe.get(keys.BOT_ENABLED)
            members, enabled = await pipe.execute()
    return shown(members, enabled, directory)


def shown(
    members: set[bytes], enabled: bytes | None, directory: Directory
) -> list[Profile]:
    """The same of what was read: the rotation, and the switch (`0`: off)."""
    if enabled == b"0":
        return []
    return [bot for bot in directory.bots if bot.id.encode() in members]
