"""Calls to namespace servers: their frames, their streams, and which server is asked.

Owns a connection's life: who is dialled, how its silence is noticed, and what becomes
of the calls that were under way. It knows no verb but its own sign of life, and asks a
call again when its connection is lost, so only what may be done twice may be a call.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link.framing import framed, read_frame
from cfmessenger.link.greeting import (
    CALLER,
    NONCE_BYTES,
    OURS,
    PROVES,
    SERVER,
    Refusal,
    Said,
    Versions,
    check,
    common,
    proof,
)
from cfmessenger.link.secured import open_stream
from cfmessenger.seldom import Seldom
from cfmessenger.tls import Trust, why
from cfmessenger.wire.complaint import UNREADABLE

logger = logging.getLogger("cfmessenger.namespace")

MAX_FRAME = 2**20
"""Bytes of one frame; a longer one ends the connection."""
ALIVE = "alive"
"""The verb that a server answers at once, whatever it waits for. One that is too old to
know it says so, which is an answer too."""
HELLO, PROVE = "hello", "prove"
"""The first two verbs by TCP: `hello` with what is spoken and bytes of chance, in hex;
then `prove`, which nobody waits for. In all that follows there is no key."""
PING_EVERY_S, MOST_UNANSWERED = 1.0, 2
CONNECT_TIMEOUT_S = 1.0
REST_FIRST_S, REST_MOST_S = 0.05, 0.5
"""The longest waits before a second round of all servers, and before any."""
MOST_CALLS = 500
"""Under way at once. A server stops reading at twice as many (`MAX_CALLS`), and would
leave our pings unread."""
TRIES = 3
"""Of one call, when connections break under it."""

Find = Callable[[], Awaitable[Sequence[str]]]
"""Where namespace servers are now, nearest first: `tcp://host:port`, `unix:<path>`.
With `#5` behind it the newest version that is spoken there is 5."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One call: `id` comes back in the answer; `key`: of a caller that proves none."""

    id: int
    verb: str
    args: list[str | None]
    key: str


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Its outcome: `error` is a code of errors.py, or None."""

    id: int
    error: str | None
    message: str | None
    result: msgspec.Raw


encode = msgspec.msgpack.Encoder().encode


def frame(message: Request | Answer) -> bytes:
    """One message as bytes for the wire. Raises `framing.TooLong`."""
    return framed(encode(message), MAX_FRAME)


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `hello`."""

    version: int
    nonce: bytes
    proof: bytes


def greet(request: Request, key: str, nonce: bytes) -> tuple[Said, Answer]:
    """The server's answer to `hello`, and what either end is to prove the key by.
    Raises `Refusal`."""
    try:
        oldest, newest, theirs = (text or "" for text in request.args)
        offered, caller = Versions(int(oldest), int(newest)), bytes.fromhex(theirs)
    except ValueError:
        raise Refusal("it greets in no form of ours") from None
    if len(caller) != NONCE_BYTES:
        raise Refusal("it proves no key")
    if not 0 < offered.oldest <= offered.newest < 2**16:
        raise Refusal("it speaks no versions")
    said = Said(offered, common(offered), "", (caller, nonce))
    greeting = Greeting(said.version, nonce, proof(key, SERVER, said))
    raw = msgspec.Raw(msgspec.msgpack.encode(greeting))
    return said, Answer(request.id, None, None, raw)


def check_proof(request: Request, key: str, said: Said) -> None:
    """Of the caller, which is its second call. Raises `Refusal`."""
    try:
        (shown,) = (bytes.fromhex(text or "") for text in request.args)
    except ValueError:
        raise Refusal("it proves no key") from None
    check(shown, key, CALLER, said)


class Line:
    """One connection to one server; it ends when the server is gone or silent."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: str,
        ping_every_s: float,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._key = key
        self._number = itertools.count(1).__next__
        self._calls: dict[int, asyncio.Future[Answer]] = {}  # by id, while under way
        self._unanswered = 0  # pings since anything was heard
        self.lost = False  # True from its end on
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()  # the last time that anything was
        work = self._read(), self._ping(ping_every_s)
        self._working = [asyncio.create_task(each) for each in work]

    @classmethod
    async def open(
        cls, url: str, key: str, ping_every_s: float, trust: Trust | None = None
    ) -> Line:
        """Connect and hear a sign of life. Raises OSError, TimeoutError, or
        `Refusal`."""
        line: Line | None = None
        at, _, newest = url.partition("#")
        old = bool(newest) and int(newest) < PROVES
        if old and trust is not None:
            raise Refusal("it is of a release without TLS")
        proves = bool(key) and not old
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await open_stream(at, trust)
                line = cls(*stream, "" if proves else key, ping_every_s)
                if proves:
                    await line._greet(key)
                else:
                    await line.ask(ALIVE, [])
        except BaseException:
            if line is not None:
                line.close()
            raise
        return line

    async def _greet(self, key: str) -> None:
        """Either end proves that it knows the key. Raises `Refusal`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        offered = [str(OURS.oldest), str(OURS.newest), nonce.hex()]
        answer = await self.ask(HELLO, [*offered])
        if answer.error is not None:
            raise Refusal(f"it refuses us: {answer.message}")
        try:
            found = msgspec.msgpack.decode(answer.result, type=Greeting)
        except msgspec.MsgspecError:
            raise Refusal("it proves no key") from None
        common(Versions(found.version, found.version))
        said = Said(OURS, found.version, "", (nonce, found.nonce))
        check(found.proof, key, SERVER, said)
        shown = proof(key, CALLER, said).hex()
        self._writer.write(frame(Request(0, PROVE, [shown], "")))

    async def ask(self, verb: str, args: list[str | None]) -> Answer:
        """Raises ConnectionResetError if the line is lost before the answer comes."""
        if self.lost:
            raise ConnectionResetError("the namespace server is gone")
        call = self._number()
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._calls[call] = future
        try:
            self._writer.write(frame(Request(call, verb, args, self._key)))
            return await future
        finally:
            del self._calls[call]

    def close(self) -> None:
        """Drop it at once; calls under way fail."""
        self.lost = True
        for task in self._working:
            task.cancel()
        self._writer.transport.abort()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the connection is lost"))

    async def _read(self) -> None:
        try:
            while True:
                body = await read_frame(self._reader, MAX_FRAME)
                answer = msgspec.msgpack.decode(body, type=Answer)
                self.heard, self._unanswered = self._loop.time(), 0
                future = self._calls.get(answer.id)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (EOFError, *UNREADABLE):
            pass
        finally:
            self.close()

    async def _ping(self, every_s: float) -> None:
        """Counted like a link's: only what was sent while our own loop ran."""
        while True:
            await asyncio.sleep(every_s)
            if self._unanswered == MOST_UNANSWERED:
                break
            self._unanswered += 1
            self._writer.write(frame(Request(0, ALIVE, [], self._key)))
        logger.warning("the namespace server is silent")
        self.close()


class Caller:
    """Calls over one `Line` at a time, to whichever server answers."""

    def __init__(
        self, find: Find, key: str, ping_every_s: float, trust: Trust | None
    ) -> None:
        self._trust = trust
        self._refusals = Seldom(logger)
        self._find = find
        self._key = key
        self._ping_every_s = ping_every_s
        self._line: Line | None = None  # the newest; it may be lost
        self._at = ""  # where it leads, or led: that server is tried last
        self._known: Sequence[str] = ()  # what `find` said last
        self._dialling = Flights[Line]()
        self._backoff = Backoff(random.uniform, base_s=REST_FIRST_S, cap_s=REST_MOST_S)
        self._rest_s = 0.0  # before the next round; 0 unless the last one failed
        self._under_way = asyncio.Semaphore(MOST_CALLS)
        self._began: float | None = None  # loop time of the first dial
        self._closed = False  # True from `close` on

    @property
    def unreachable_since(self) -> float | None:
        """Loop time when a server was last heard, if there is no connection now."""
        line = self._line
        if line is None:
            return self._began
        return line.heard if line.lost else None

    async def call(
        self, verb: str, args: list[str | None], timeout_s: float
    ) -> msgspec.Raw:
        """The result. Raises `Unavailable`: what the server said, or that none does.

        It waits for one round of all servers, not for its whole deadline: whoever
        needs the answer tries again anyway.
        """
        try:
            async with asyncio.timeout(timeout_s), self._under_way:
                answer = await self._ask(verb, args)
        except (OSError, TimeoutError) as error:
            raise Unavailable(message="The namespace does not answer.") from error
        if answer.error is not None:
            raise Unavailable(answer.error, answer.message)
        return answer.result

    async def _ask(self, verb: str, args: list[str | None]) -> Answer:
        for left in reversed(range(TRIES)):
            line = await self._connected()
            try:
                return await line.ask(verb, args)
            except ConnectionResetError:
                if not left:
                    raise
        raise AssertionError("not reached")

    async def _connected(self) -> Line:
        if self._closed:
            raise ConnectionResetError("the client is closed")
        if self._line is not None and not self._line.lost:
            return self._line
        try:
            return await self._dialling.join("line", self._dial)
        except asyncio.CancelledError:
            if self._closed:
                raise ConnectionResetError("the client is closed") from None
            raise

    async def _dial(self) -> Line:
        """One round of all servers. Raises OSError, or TimeoutError."""
        if self._began is None:
            self._began = asyncio.get_running_loop().time()
        await asyncio.sleep(self._rest_s)
        problem: Exception = ConnectionRefusedError("no namespace server is known")
        for url in sorted(await self._addresses(), key=lambda url: url == self._at):
            try:
                line = await Line.open(url, self._key, self._ping_every_s, self._trust)
            except (Refusal, ssl.SSLError) as error:
                told = why(error) if isinstance(error, OSError) else str(error)
                self._refusals.warn(f"{url} {told}", f"no calls to {url}: {told}")
                problem = ConnectionRefusedError(told)
                continue
            except (OSError, TimeoutError) as error:
                logger.debug("no answer at %s: %r", url, error)
                problem = error
                continue
            if url != self._at:
                logger.info("names are asked for at %s", url.partition("#")[0])
            self._line, self._at, self._rest_s = line, url, 0.0
            self._backoff.reset()
            return line
        self._rest_s = self._backoff.delay()
        raise problem

    async def _addresses(self) -> Sequence[str]:
        """Those of before, when nobody can say where servers are now."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._known = await self._find()
        except (OSError, TimeoutError, Unavailable) as error:
            logger.warning("where namespace servers are is not known: %r", error)
        return self._known

    async def close(self) -> None:
        """Drop the connection; calls under way fail, and so do later ones."""
        self._closed = True
        await self._dialling.cancel()
        if self._line is not None:
            self._line.close()
