"""Audience: plays the gateways of one machine and sees what each socket would see.

Feeds events in, carries effects out as a gateway does (subscriptions, `but_user`,
attachments), and turns the time by hand: `wait` rings every alarm at its moment.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import Machine
from cfmessenger.ids import gateway_of
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
    ) -> list[fx.Effect]:
        name = user_id.replace("user_", "User ")
        self.attachments[conn] = msgspec.convert(
            (conn, user_id, name, status, False, watch), fx.Attachment
        )
        return self._see(
            self.machine.connect(self.now, self.attachments[conn], since, greeted)
        )

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
        return self._see(self.machine.attach(self.now, gateway, mine))

    def detach(self, gateway: str) -> list[fx.Effect]:
        for conn in [c for c in self.attachments if gateway_of(c) == gateway]:
            self._lose(conn)
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
