"""The replier that asks an OpenAI-compatible server (`POST …/chat/completions`).

A cloud's, or one on this machine (Ollama, LM Studio, llama.cpp, vLLM). Owns what may go
wrong with it: an answer has 15 s in all and one retry within them, is bounded in size,
and when there is none the persona makes an excuse. A server that keeps failing is left
in peace for a while (`breaker`). The key is in no log line and no error.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import httpx2
import msgspec

from cfmessenger.accounts.users import Profile
from cfmessenger.bots.breaker import Breaker
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.bots.voices import excuse_of
from cfmessenger.bots.wording import messages, tidy
from cfmessenger.wire.complaint import UNREADABLE

logger = logging.getLogger("cfmessenger.replier")

DEADLINE_S = 15.0
"""For an answer, all attempts together."""
ATTEMPTS = 2
PAUSE_S = 0.5
"""Between them, with full jitter."""

MAX_TOKENS = 200
MAX_BYTES = 256 * 1024
"""Of one answer, as it comes over the wire."""

_STREAM_END = b"[DONE]"


class Model(msgspec.Struct, frozen=True):
    """Which server and which of its models. `repr` hides the key."""

    base_url: str
    name: str
    key: str | None = None

    def __repr__(self) -> str:
        return f"Model({self.base_url!r}, {self.name!r})"


class _Piece(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Piece | None = None
    message: _Piece | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    total_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode


class _NoAnswer(Exception):
    """`outcome` is talk.Answer's; `again`: another attempt may do better."""

    def __init__(self, outcome: str, why: str, *, again: bool = True) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.again = again


class _Reply:
    """What has come of an answer: text, tokens, and whether it came to its end."""

    def __init__(self, composing: Callable[[], None]) -> None:
        self.text = ""  # grows with each piece
        self.tokens = 0  # as the server says, usually at the end
        self.ended = False  # True from its last piece on; else it broke off
        self._composing = composing

    def take(self, data: bytes) -> None:
        """One JSON value of the answer."""
        try:
            chunk = _chunk(data)
        except UNREADABLE:
            raise _NoAnswer("malformed", "not a completion") from None
        if chunk.usage is not None:
            self.tokens = max(0, chunk.usage.total_tokens)
        for choice in chunk.choices[:1]:
            piece = choice.delta or choice.message
            if piece is not None and piece.content:
                self.text += piece.content
                self._composing()
            if choice.finish_reason is not None or choice.message is not None:
                self.ended = True


class Remote:
    """A `Replier` by a model. Raises nothing: see `Replier`."""

    def __init__(
        self,
        model: Model,
        *,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = f"{model.base_url.rstrip('/')}/chat/completions"
        self._model = model.name
        self._deadline_s = deadline_s
        self._clock = clock
        self._jitter = jitter
        self._breaker = Breaker()
        headers = {"Authorization": f"Bearer {model.key}"} if model.key else {}
        self._http = httpx2.AsyncClient(
            timeout=deadline_s, follow_redirects=False, headers=headers
        )

    async def reply(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        """See `Replier`."""
        if not self._breaker.allows(self._clock()):
            return Answer(excuse_of(persona, question), 0, "circuit_open")
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._ask(persona, question, composing)
        except TimeoutError:
            problem = _NoAnswer("timeout", "no answer in time")
        except _NoAnswer as error:
            problem = error
        else:
            self._breaker.succeeded()
            return answer
        self._breaker.failed(self._clock())
        logger.warning("the model gave no answer: %s", problem)
        return Answer(excuse_of(persona, question), 0, problem.outcome)

    async def aclose(self) -> None:
        """See `Replier`."""
        await self._http.aclose()

    async def _ask(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        told = messages(persona, question)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = await self._call(told, composing)
                text = tidy(reply.text, persona)
                if not text:
                    raise _NoAnswer("malformed", "an empty answer")
                return Answer(text, reply.tokens)
            except _NoAnswer as problem:
                if attempt == ATTEMPTS or not problem.again:
                    raise
                logger.info("the model is asked again: %s", problem)
            await asyncio.sleep(PAUSE_S * self._jitter())
        raise AssertionError("not reached")

    async def _call(
        self, told: list[dict[str, str]], composing: Callable[[], None]
    ) -> _Reply:
        body = {
            "model": self._model,
            "messages": told,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        reply = _Reply(composing)
        try:
            async with self._http.stream("POST", self._url, json=body) as response:
                if response.status_code != 200:
                    code = response.status_code
                    again = code == 429 or code >= 500
                    raise _NoAnswer("error", f"status {code}", again=again)
                kind = response.headers.get("content-type", "")
                if kind.startswith("text/event-stream"):
                    await _read_events(response, reply)
                else:
                    reply.take(await _read_all(response))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _NoAnswer("error", type(error).__name__) from None
        if not reply.ended:
            raise _NoAnswer("malformed", "it broke off")
        return reply


async def _read_all(response: httpx2.Response) -> bytes:
    data = b""
    async for part in response.aiter_bytes():
        data += part
        if len(data) > MAX_BYTES:
            raise _NoAnswer("malformed", "too long", again=False)
    return data


async def _read_events(response: httpx2.Response, reply: _Reply) -> None:
    """Server-sent events, of which only the `data:` lines matter."""
    rest, size = b"", 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise _NoAnswer("malformed", "too long", again=False)
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == _STREAM_END:
                reply.ended = True
                return
            if data:
                reply.take(data)
