"""What an actor process must know; travels in the actor's constructor."""

from __future__ import annotations

from typing import Self

import msgspec
from msgspec.structs import replace

from actors.heat import Limits
from actors.thinking import Bots
from cfmessenger.accounts.users import Directory
from cfmessenger.chat.room import RoomRules
from cfmessenger.ids import DIRECTOR
from cfmessenger.placement import Placement
from cfmessenger.settings import Settings


class HostSettings(msgspec.Struct, frozen=True):
    """Made of the node's settings once, and narrowed for each actor."""

    valkey_url: str
    log_length: int
    hibernate_after: float  # seconds
    chat_rate: tuple[int, int]  # (count, seconds), as the next
    nudge_rate: tuple[int, int]
    listen: str = "127.0.0.1"  # address of the link server; the port is any free one
    crash_at: str = ""  # tests: `before_append:3` dies at the third
    actor: str | None = None  # its own name; None: any object may live here
    placement: Placement = Placement()  # to begin with, where no generation is kept
    limits: Limits = Limits()
    bots: Bots | None = None  # None: there are none

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What of the node's settings concerns its actors."""
        assert settings.valkey_url is not None
        return cls(
            valkey_url=settings.valkey_url,
            log_length=settings.log_length,
            hibernate_after=settings.hibernate_after,
            chat_rate=(settings.chat_rate.count, settings.chat_rate.seconds),
            nudge_rate=(settings.nudge_rate.count, settings.nudge_rate.seconds),
            crash_at=settings.crash_at or "",
            bots=_bots_of(settings),
            limits=Limits(
                settings.hot_share / 100,
                settings.hot_hold / 1000,
                settings.calm_after,
                settings.own_rooms,
            ),
        )

    def for_actor(self, actor: str, placement: Placement) -> Self:
        """These settings for one actor: secrets go where they are needed."""
        bots = self.bots
        if bots is not None and actor != DIRECTOR:
            bots = replace(bots, ai_key=None)
        return replace(self, actor=actor, placement=placement, bots=bots)

    @property
    def rules(self) -> RoomRules:
        """The room's share of it."""
        return RoomRules(
            chat_rate=self.chat_rate,
            nudge_rate=self.nudge_rate,
            bots=self.bots.names if self.bots else (),
        )


def _bots_of(settings: Settings) -> Bots | None:
    personas = Directory.load(settings.users).bots if settings.bots_active else ()
    if not personas:
        return None
    return Bots(
        personas,
        active=settings.bots_active,
        quota_day=settings.bot_quota_day,
        quota_user=settings.bot_quota_user,
        quota_room=settings.bot_quota_room,
        ai_base_url=settings.ai_base_url,
        ai_model=settings.ai_model,
        ai_key=settings.ai_key,
    )
