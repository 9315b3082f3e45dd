"""What the bots bring: their director, what rooms must know of them, and their keys.

`invite` is for the process that starts actors, `arrive` for the actor (guests.py).
Rules of who answers belong in `cfmessenger.bots`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from actors.bots.thinking import Bots, Mind, Thinking
from actors.guests import Guest, Invitation
from actors.kinds import Kind, KindOf
from cfmessenger.accounts.users import Directory
from cfmessenger.bots import DIRECTOR, NAME
from cfmessenger.bots.asking import ear_for
from cfmessenger.bots.derived import DERIVED
from cfmessenger.bots.director import Budget, Director, Persona, is_later
from cfmessenger.chat.room import RoomRules
from cfmessenger.settings import Settings

logger = logging.getLogger("cfmessenger.bots")

SECRETS = ("ai_base_url", "ai_key")


def invite(settings: Settings) -> tuple[Invitation, ...]:
    """The bots of this node; none if there are none. Where the AI server is, and its
    key, the director's process alone reads where it runs."""
    personas = Directory.load(settings.users).bots if settings.bots_active else ()
    if not personas:
        return ()
    bots = Bots(
        personas,
        active=settings.bots_active,
        quota_day=settings.bot_quota_day,
        quota_user=settings.bot_quota_user,
        quota_room=settings.bot_quota_room,
        ai_model=settings.ai_model if settings.ai_base_url else None,
    )
    told = msgspec.msgpack.encode(bots)
    secrets = {name: getattr(settings, name) for name in SECRETS}
    return (Invitation(__name__, told, DIRECTOR, secrets),)


def arrive(told: bytes, secrets: Mapping[str, str | None]) -> Guest:
    """The bots, in an actor process."""
    bots = replace(msgspec.msgpack.decode(told, type=Bots), **secrets)
    if secrets and bots.ai_model and not bots.ai_base_url:
        logger.warning("the bots answer by script: CFM_AI_BASE_URL is not set here")
    return BotsGuest(Mind(bots))


class BotsGuest(Guest):
    """The director, and the one replier of this process."""

    name = NAME

    def __init__(self, mind: Mind) -> None:
        self._mind = mind

    @property
    def kinds(self) -> Mapping[str, KindOf]:
        return {DIRECTOR: self._director}

    def _director(self, name: str) -> Kind:
        bots = self._mind.bots
        personas = [Persona(*names) for names in bots.names]
        budget = Budget(bots.active, bots.quota_day, bots.quota_user, bots.quota_room)
        return Kind(
            lambda life: Director(personas, budget, life),
            lambda life, data, clean: Director.restore(
                personas, budget, data, clean, life
            ),
            is_later,
            attendant=lambda shell: Thinking(self._mind, shell),
            derived=DERIVED,
        )

    def rules(self, rules: RoomRules) -> RoomRules:
        return replace(rules, ears=(*rules.ears, ear_for(self._mind.bots.names)))

    async def aclose(self) -> None:
        await self._mind.aclose()
