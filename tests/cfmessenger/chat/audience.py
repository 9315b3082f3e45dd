"""Audience: plays the gateways of one machine and sees what each socket would see.

Feeds events in, carries effects out as a gateway does (subscriptions, `but_user`,
attachments, and at the registry whom each socket hears of), and turns the time by hand:
`wait` rings every alarm at its moment.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import Machine
from cfmessenger.chat.presence import Presence
from cfmessenger.ids import gateway_of
from cfmessenger.link.arrivals import USUAL
from cfmessenger.link.onlookers import Onlookers, Write
from cfmessenger.link.roll import PersonalRoll
from cfmessenger.load.actor_room import payloads

Frame = dict[str, Any]


class Audience:
    """The sockets of `machine`. Every verb returns the effects it caused."""

    def __init__(self, machine: Machine, now: int = 1_000_000) -> None:
        self.machine = machine
        self.now = now
        self.attachments: dict[str, fx.Attachment] = {}
        self.subscribed: list[str] = []
        self.seen: dict[str, list[Frame]] = {}
        self.appended: list[fx.Append] = []
        self.notified: list[fx.Notify] = []
        self.records: list[tuple[str, str | None]] = []
        self.deliveries = 0
        self.crowds: dict[str, Onlookers[str]] = {}  # at the registry, by gateway
        self.storm = USUAL  # of those that come later
        self._n = 0

    # Events.

    def enter(
        self,
        conn: str,
        user_id: str,
        since: int | None = None,
        greeted: bool = False,
        status: str = "online",
        watch: bool = True,
        friends: Iterable[str] = (),
    ) -> list[fx.Effect]:
        name = user_id.replace("user_", "User ")
        self.attachments[conn] = msgspec.convert(
            (conn, user_id, name, status, False, watch), fx.Attachment
        )
        effects = self._see(
            self.machine.connect(self.now, self.attachments[conn], since, greeted)
        )
        if watch and isinstance(self.machine, Presence):
            self._crowd(conn).enter(conn, user_id, friends)
            self.seek(gateway_of(conn))
        return effects

    def say(self, conn: str, frame: Frame | bytes) -> list[fx.Effect]:
        self._n += 1
        data = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
        fresh = f"fresh-{self._n}"
        return self._see(self.machine.message(self.now, conn, data, fresh))

    def chat(
        self,
        conn: str,
        content: str = "hello",
        id: str | None = None,  # noqa: A002
    ) -> list[fx.Effect]:
        frame: Frame = {"type": "chat", "content": content}
        return self.say(conn, frame if id is None else {**frame, "id": id})

    def leave(self, conn: str) -> list[fx.Effect]:
        self._lose(conn)
        return self._see(self.machine.close(self.now, conn))

    def change(self, conn: str, **now: Any) -> list[fx.Effect]:
        """The gateway has newer words, or a newer status, of a socket's user."""
        told = replace(self.attachments[conn], **now)
        self.attachments[conn] = told
        return self._see(self.machine.change(self.now, told))

    def reattach(self, gateway: str) -> list[fx.Effect]:
        mine = [a for c, a in self.attachments.items() if gateway_of(c) == gateway]
        effects = self._see(self.machine.attach(self.now, gateway, mine))
        if gateway in self.crowds:
            wants = self.crowds[gateway].wanted.again()
            if wants is not None:
                self.machine.want(self.now, gateway, wants)
        return effects

    def detach(self, gateway: str) -> list[fx.Effect]:
        for conn in [c for c in self.attachments if gateway_of(c) == gateway]:
            self._lose(conn)
        self.crowds.pop(gateway, None)
        return self._see(self.machine.detach(self.now, gateway))

    def notify(self, notification: fx.Notification) -> list[fx.Effect]:
        data = fx.encode_notification(notification)
        return self._see(self.machine.notify(self.now, data))

    def wait(self, ms: int) -> list[fx.Effect]:
        """Let time pass; every alarm rings when it is due."""
        end, effects = self.now + ms, []
        while (at := self.machine.alarm_at) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self._see(self.machine.alarm(self.now))
        self.now = end
        return effects

    def rest(self) -> None:
        """Wait until no timer runs."""
        while (at := self.machine.alarm_at) is not None:
            self.wait(max(0, at - self.now))

    # Of whom sockets want to hear.

    def _crowd(self, conn: str) -> Onlookers[str]:
        gateway = gateway_of(conn)
        if gateway not in self.crowds:
            called = {f"user_{n}": f"User {n}" for n in range(1, 100)}.get
            self.crowds[gateway] = Onlookers(called, self.storm)
        return self.crowds[gateway]

    def watch(self, conn: str, *user_ids: str) -> None:
        self._write(self._crowd(conn).watch(conn, user_ids))
        self.seek(gateway_of(conn))

    def unwatch(self, conn: str, *user_ids: str) -> None:
        self._crowd(conn).unwatch(conn, user_ids)

    def sweep(self, gateway: str) -> None:
        self.crowds[gateway].sweep()
        self.seek(gateway)

    def seek(self, gateway: str) -> None:
        wants = self.crowds[gateway].wanted.leaving()
        if wants is not None:
            self.machine.want(self.now, gateway, wants)

    def calm(self, gateway: str) -> None:
        """A round of a storm is over, if there is one."""
        if self.crowds[gateway].holds_back:
            self._write(self.crowds[gateway].calm())

    def resync(self, gateway: str, most: int = 1000) -> None:
        self._write(self.crowds[gateway].resync(most))

    def _write(self, writes: list[Write[str]]) -> None:
        for sockets, frames in writes:
            for frame in frames:
                self._show(sockets, frame)

    # What was seen.

    def take(self, conn: str) -> list[Frame]:
        """What this socket was sent since the last `take`."""
        frames = self.seen.get(conn, [])
        self.seen[conn] = []
        return frames

    def take_types(self, conn: str) -> list[str]:
        return [frame["type"] for frame in self.take(conn)]

    def forget(self) -> None:
        """Start watching from here."""
        self.seen = {}

    def _lose(self, conn: str) -> None:
        del self.attachments[conn]
        if gateway_of(conn) in self.crowds:
            self._crowd(conn).leave(conn)
        if conn in self.subscribed:
            self.subscribed.remove(conn)

    def _see(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        for effect in effects:
            if isinstance(effect, fx.Send):
                self._show(effect.conns, effect.frame)
            elif isinstance(effect, fx.Repeat):
                self._show((effect.conn,), effect.frame or b'{"type":"from the log"}')
            elif isinstance(effect, fx.Broadcast):
                self._show(self._listeners(effect.but_user), effect.frame)
            elif isinstance(effect, fx.Roll):
                self._call(effect)
            elif isinstance(effect, fx.Subscribe):
                new = [c for c in effect.conns if c not in self.subscribed]
                self.subscribed += new
            elif isinstance(effect, fx.KeepAttachment):
                assert effect.attachment.conn in self.attachments
                self.attachments[effect.attachment.conn] = effect.attachment
            elif isinstance(effect, fx.Tell):
                if effect.gateway in self.crowds:
                    self._write(self.crowds[effect.gateway].told(effect.news))
            elif isinstance(effect, fx.Meet):
                for conn in effect.conns:
                    user_id = self.attachments[conn].user_id
                    (other,) = (u for u in effect.user_ids if u != user_id)
                    self._write(self._crowd(conn).meet(conn, other))
                    self.seek(gateway_of(conn))
            elif isinstance(effect, fx.Append):
                self.appended.append(effect)
                if effect.shown:
                    self._show(self._listeners(None), effect.event)
            elif isinstance(effect, fx.Notify):
                self.notified.append(effect)
            elif isinstance(effect, fx.Record):
                status = effect.status if effect.here else None
                self.records.append((effect.user_id, status))
        return effects

    def _call(self, roll: fx.Roll) -> None:
        personal = PersonalRoll(roll.frame, roll.start, roll.end, roll.users)
        conns = self.subscribed if roll.conns is None else roll.conns
        for conn in conns:
            if conn not in roll.but and conn in self.subscribed:
                (whole,) = payloads(b"".join(personal.for_one(self.attachments[conn])))
                self._show([conn], whole)

    def _listeners(self, but_user: str | None) -> list[str]:
        return [
            conn
            for conn in self.subscribed
            if self.attachments[conn].user_id != but_user
        ]

    def _show(self, conns: Iterable[str], frame: bytes) -> None:
        decoded = msgspec.json.decode(frame)
        for conn in conns:
            self.deliveries += 1
            self.seen.setdefault(conn, []).append(decoded)
