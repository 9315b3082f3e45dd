"""One stay in one room, as `cfmessenger chat` makes it.

Owns the commands a line may hold, and what is done about each event: shown, timed (a
wink starts at its `playAt` on the server's clock), acknowledged. The connection is
cfmessenger.client's, the look screen.py's, standard input lines.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_args

from msgspec import UNSET

from cfmessenger.background import Background
from cfmessenger.cli.lines import piped, typed
from cfmessenger.cli.lookout import Lookout
from cfmessenger.cli.screen import Screen
from cfmessenger.client import (
    ClientError,
    Gap,
    Lost,
    Opened,
    RateLimited,
    Recap,
    Rewound,
    RoomConnection,
    Session,
)
from cfmessenger.ids import direct_users
from cfmessenger.wire.events import LostMessage, Message, WinkMessage
from cfmessenger.wire.protocol import (
    DeliveryStatus,
    ErrorFrame,
    Participant,
    Participants,
    SessionExpiring,
    Status,
    System,
    TypingState,
)

_HELP = """\
/nudge          shake everyone's window
/wink [id]      play a wink (default: heart)
/typing [off]   show that you are typing, or that you stopped
/status STATUS  online, busy, away or offline
/name NAME      the name that everybody sees
/who            who is here
/watch [USER …] tell when these people come, go or change; alone: how they are now
/unwatch USER … or tell no more
/history [N]    N earlier messages (default: 20)
/quit           leave; so does the end of the input
//text          say /text"""

_RECENT = 256
_LATEST_ACKED = 50
_RATE_RETRIES = 20
_TYPING_AGAIN_S = 2.0
#: How long leaving waits for the answers to what was just said.
_FAREWELL_S = 2.0


class _Owed:
    """What is still to be shown before we leave: what was acknowledged, too."""

    def __init__(self) -> None:
        self.shown_seq = 0
        self.acked_seq = 0
        self.winks = 0  # that have come and do not play yet
        self.progress = asyncio.Event()  # set at whatever may settle it


class Visit:
    """From the first line to the last: `await visit.run(…)`."""

    def __init__(self, session: Session, room: RoomConnection, screen: Screen) -> None:
        self.session = session
        self.room = room
        self.screen = screen
        self.failed = False
        self._leave = asyncio.Event()
        self._people: dict[str, Participant] = {}  # as last told; of a crowd, some
        self._total = 0  # how many are here
        self._oldest: int | None = None  # seq, for /history
        self._said: OrderedDict[str, str] = OrderedDict()  # ours: id to text
        self._played: OrderedDict[str, None] = OrderedDict()  # playback keys
        self._lookout = Lookout(session, screen)
        self._sends = Background()  # each until it is answered, or we leave
        self._owed = _Owed()
        self._typing_told = -math.inf
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "nudge": self._nudge,
            "wink": self._wink,
            "typing": self._typing,
            "status": self._status,
            "name": self._name,
            "who": self._who,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "history": self._history,
            "help": self._help,
            "quit": self._quit,
        }

    async def run(self, fd: int, *, stay: bool) -> bool:
        """Until somebody or something ends it; True if anything failed.

        Lines come from the terminal if the screen is one, else from `fd`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._leave.set)
        self.room.start()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._leave.wait()),
            asyncio.create_task(self._speak(fd, stay=stay)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._settled()
        finally:
            for task in tasks:
                task.cancel()
            self._sends.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sends.settle()
            await self._lookout.close()
        return self.failed

    # Heard.

    async def _listen(self) -> None:
        async for event in self.room:
            self._show_event(event)
            self._owed.progress.set()

    def _show_event(self, event: object) -> None:
        match event:
            case LostMessage():
                self._note(event)  # the gap before it was told
            case Message():
                self._arrived(event)
            case Recap():
                self._caught_up(event)
            case System():
                self.screen.notice(event.content)
            case TypingState():
                doing = "is typing…" if event.is_typing else "stopped typing"
                self.screen.notice(f"{event.display_name} {doing}")
            case Participants():
                self._present(event)
            case DeliveryStatus():
                self._delivered(event)
            case ErrorFrame():
                self._fail(f"{event.message} ({event.code})")
            case Opened(since=since):
                self.screen.notice("connected" if since is None else "connected again")
            case Lost():
                why = event.reason or f"code {event.code}"
                self.screen.notice(
                    f"not connected ({why}); trying again in {event.retry_s:.1f} s"
                )
            case Gap(first=first, last=last):
                self.screen.notice(f"messages {first} to {last} are no longer kept")
            case Rewound():
                self.screen.notice("the server lost messages of this room")
            case SessionExpiring():
                self.screen.notice("the session ends soon")

    def _arrived(self, message: Message) -> None:
        self._note(message)
        if not isinstance(message, WinkMessage):
            self.screen.message(message)
        elif message.playback_key not in self._played:  # "plays a key once"
            _remember(self._played, message.playback_key, None)
            delay_s = self.room.delay_until(message.play_at)
            self._owed.winks += 1
            asyncio.get_running_loop().call_later(delay_s, self._play, message)
        self._receipt(message)

    def _play(self, message: WinkMessage) -> None:
        self.screen.wink(message)
        self._owed.winks -= 1
        self._owed.progress.set()

    def _caught_up(self, recap: Recap) -> None:
        said = [each for each in recap.messages if not isinstance(each, LostMessage)]
        for message in recap.messages:
            self._note(message)
        for message in said:
            self.screen.message(message)
        for message in said[-_LATEST_ACKED:]:
            self._receipt(message)

    def _note(self, message: Message) -> None:
        self._owed.shown_seq = max(self._owed.shown_seq, message.seq)
        if self._oldest is None or message.seq < self._oldest:
            self._oldest = message.seq
        if message.sender_id == self.session.user.id:
            _remember(self._said, message.id, message.content)

    def _receipt(self, message: Message) -> None:
        """Delivered when it arrives; read when a person has it before their eyes."""
        if message.sender_id == self.session.user.id or message.status == "read":
            return
        if message.status is UNSET:
            self.room.ack(message.id, "delivered")
        if self.screen.interactive:
            self.room.ack(message.id, "read")

    def _delivered(self, event: DeliveryStatus) -> None:
        text = self._said.get(event.ack_id)
        if text is None:
            return
        someone = self._people.get(event.sender_id)
        name = someone.display_name if someone is not None else event.sender_id
        what = "delivered to" if event.status == "delivered" else "read by"
        shown = text if len(text) <= 24 else text[:23] + "…"
        self.screen.notice(f"✓✓ {what} {name}: {shown}")

    def _present(self, told: Participants) -> None:
        people, total = told.participants, told.total
        before, self._people = self._people, {one.id: one for one in people}
        self._total = len(people) if total is UNSET else total
        if not before:
            self.screen.participants(people, self._total, 20)
            return
        if total is not UNSET:
            return  # a crowd comes and goes in silence
        direct = bool(direct_users(self.room.room_id))
        for one in people:
            old = before.get(one.id)
            if old is None and direct:  # groups are told so by the room itself
                self.screen.notice(f"{one.display_name} is here")
            elif old is not None and old.status != one.status:
                self.screen.notice(f"{one.display_name} is now {one.status}")
            elif old is not None and old.display_name != one.display_name:
                self.screen.notice(f"{old.display_name} is now {one.display_name}")
        for gone in before.keys() - self._people.keys() if direct else ():
            self.screen.notice(f"{before[gone].display_name} has left")

    # Said.

    async def _speak(self, fd: int, *, stay: bool) -> None:
        lines = typed(self._line_changed) if self.screen.interactive else piped(fd)
        async with contextlib.aclosing(lines):
            async for line in lines:
                if line.strip():
                    await self._take_line(line)
        if stay:
            await self._leave.wait()

    async def _settled(self) -> None:
        """Every send is answered, and what was acknowledged is on the screen."""
        await self._sends.settle()
        owed = self._owed
        while owed.shown_seq < owed.acked_seq or owed.winks:
            owed.progress.clear()
            await owed.progress.wait()

    def _line_changed(self, line: str) -> None:
        """The others see a person type; re-armed before their server forgets it."""
        typing = bool(line) and not line.startswith("/")
        now = asyncio.get_running_loop().time()
        if typing and now - self._typing_told >= _TYPING_AGAIN_S:
            self._typing_told = now if self.room.typing(True) else -math.inf
        elif not typing and self._typing_told > -math.inf:
            self._typing_told = -math.inf
            self.room.typing(False)

    async def _take_line(self, line: str) -> None:
        if not line.startswith("/") or line.startswith("//"):
            text = line.removeprefix("/") if line.startswith("//") else line
            await self._say(lambda: self.room.send(text))
            return
        name, _, argument = line[1:].strip().partition(" ")
        command = self._commands.get(name)
        if command is None:
            self._fail(f"there is no /{name}; /help lists the commands")
            return
        try:
            await command(argument.strip())
        except ClientError as error:
            self._fail(str(error))

    async def _say(self, send: Callable[[], Coroutine[Any, Any, Message]]) -> None:
        """A terminal goes on at once; a pipe waits, so that it needs no bound."""
        task = self._sends.begin(self._sent(send))
        if not self.screen.interactive:
            await task

    async def _sent(self, send: Callable[[], Coroutine[Any, Any, Message]]) -> None:
        for left in reversed(range(_RATE_RETRIES)):
            try:
                seq = (await send()).seq
                self._owed.acked_seq = max(self._owed.acked_seq, seq)
                return
            except RateLimited as limit:
                if self.screen.interactive or not left:
                    wait_s = (limit.retry_after_ms or 0) / 1000
                    self._fail(f"not sent: {limit.message} (again in {wait_s:.1f} s)")
                    return
                await asyncio.sleep((limit.retry_after_ms or 1000) / 1000)
            except ClientError as error:
                self._fail(f"not sent: {error}")
                return

    async def _nudge(self, _: str) -> None:
        await self._say(self.room.nudge)

    async def _wink(self, wink_id: str) -> None:
        await self._say(lambda: self.room.wink(wink_id or "heart"))

    async def _typing(self, argument: str) -> None:
        self.room.typing(argument != "off")

    async def _status(self, status: str) -> None:
        for known in get_args(Status):
            if status == known:
                self.room.presence(known)
                return
        self._fail(f"a status is one of {', '.join(get_args(Status))}")

    async def _name(self, name: str) -> None:
        me = self._people.get(self.session.user.id)
        await self.session.appear(me.status if me is not None else "online", name)

    async def _who(self, _: str) -> None:
        self.screen.participants(self._people.values(), self._total, 500)

    async def _watch(self, user_ids: str) -> None:
        await self._lookout.watch(user_ids.split())

    async def _unwatch(self, user_ids: str) -> None:
        self._lookout.unwatch(user_ids.split())

    async def _history(self, count: str) -> None:
        if count and not count.isdecimal():
            self._fail("/history takes a number")
            return
        page = await self.session.messages(
            self.room.room_id, before=self._oldest, limit=int(count or 20)
        )
        if not page.messages:
            self.screen.notice("nothing earlier")
        for message in page.messages:
            self._note(message)
            self.screen.message(message)

    async def _help(self, _: str) -> None:
        for line in _HELP.split("\n"):
            self.screen.notice(line)

    async def _quit(self, _: str) -> None:
        self._leave.set()
        await asyncio.Event().wait()  # read nothing more

    def _fail(self, text: str) -> None:
        self.failed = self.failed or not self.screen.interactive
        self.screen.error(text)


def _remember(memory: OrderedDict[str, Any], key: str, value: object) -> None:
    memory[key] = value
    if len(memory) > _RECENT:
        memory.popitem(last=False)
