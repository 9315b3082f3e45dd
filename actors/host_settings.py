"""What an actor process must know; all of it but secrets travels in its constructor.

Ray keeps what an actor was made with, and may keep it elsewhere too, so no secret is in
it: the process that is made finds them where it runs (`cfmessenger/references.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec
from msgspec.structs import replace

from actors.guests import Invitation
from actors.heat import Limits
from actors.pace import USUAL, Pace
from cfmessenger.addresses import with_parameters
from cfmessenger.chat.crowd import USUAL as CROWD
from cfmessenger.chat.crowd import Crowd
from cfmessenger.chat.interests import USUAL_ALL
from cfmessenger.chat.room import RoomRules
from cfmessenger.placement import Placement
from cfmessenger.references import own
from cfmessenger.settings import Ports, Settings
from cfmessenger.tls import Files


class HostSettings(msgspec.Struct, frozen=True):
    """Made of the node's settings once, narrowed for each actor, and `completed` by
    what the actor's own machine says."""

    valkey_url: str  # empty on the way
    log_length: int
    hibernate_after: float  # seconds
    chat_rate: tuple[int, int]  # (count, seconds), as the next
    nudge_rate: tuple[int, int]
    listen: str = "127.0.0.1"  # address of the link server; the port is any free one
    crash_at: str = ""  # tests: `before_append:3` dies at the third
    actor: str | None = None  # its own name; None: any object may live here
    placement: Placement = Placement()  # to begin with, where no generation is kept
    limits: Limits = Limits()
    pace: Pace = USUAL  # another one in tests
    guests: tuple[Invitation, ...] = ()
    presence_all: int = USUAL_ALL  # with more people online it is a crowd
    heal_s: float = 10.0  # how long committed events are kept for a log that loses them
    crowd: Crowd = CROWD  # another one in tests
    link_ports: Ports | None = None  # for the link server; None: any
    replicas: int = (
        0  # that confirm what is to outlive the server; 0: none is waited for
    )
    tls: Files | None = None  # of this machine; None on the way, and where all is clear
    cluster: str = ""  # the id of the Ray cluster it is a part of; "": of any

    @classmethod
    def of(cls, settings: Settings, guests: tuple[Invitation, ...] = ()) -> Self:
        """What of the node's settings concerns its actors, and who lives with them."""
        assert settings.valkey_url is not None
        return cls(
            valkey_url=settings.valkey_url,
            log_length=settings.log_length,
            hibernate_after=settings.hibernate_after,
            chat_rate=(settings.chat_rate.count, settings.chat_rate.seconds),
            nudge_rate=(settings.nudge_rate.count, settings.nudge_rate.seconds),
            crash_at=settings.crash_at or "",
            guests=guests,
            presence_all=settings.presence_all,
            heal_s=settings.heal_s,
            link_ports=settings.link_ports,
            replicas=settings.replicas,
            tls=settings.tls,
            limits=Limits(
                settings.hot_share / 100,
                settings.hot_hold / 1000,
                settings.calm_after,
                settings.own_rooms,
            ),
        )

    def for_actor(self, actor: str, placement: Placement) -> Self:
        """These settings for one actor: guests' secrets go where they are needed."""
        guests = tuple(
            each if each.home == actor else replace(each, secrets={})
            for each in self.guests
        )
        return replace(self, actor=actor, placement=placement, guests=guests)

    def on_the_way(self) -> Self:
        """Without what is secret, or of one machine alone."""
        guests = tuple(
            replace(each, secrets=dict.fromkeys(each.secrets)) for each in self.guests
        )
        return replace(self, valkey_url="", tls=None, guests=guests)

    def completed(self, env: Mapping[str, str]) -> Self:
        """With what this machine says of the rest, in this environment of an actor's
        process. Raises `SettingsError`."""
        here = own(env)
        guests = tuple(
            replace(each, secrets={f: getattr(here, f) for f in each.secrets})
            for each in self.guests
        )
        assert here.valkey_url is not None
        # Whoever made this actor says what an acknowledgement means, wherever it runs.
        count = str(self.replicas) if self.replicas else None
        url = with_parameters(here.valkey_url, replicas=count)
        return replace(self, valkey_url=url, tls=here.tls, guests=guests)

    @property
    def rules(self) -> RoomRules:
        """The rooms' share of it, to which guests may add."""
        return RoomRules(
            chat_rate=self.chat_rate, nudge_rate=self.nudge_rate, crowd=self.crowd
        )
