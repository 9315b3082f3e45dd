"""What people say of themselves over sockets: their row is changed, one at a time.

A socket does not wait for SQL, so what its user wants to be called is noted here and
written when the change before it is done; of several wishes the last counts. Whoever
asked is told if it cannot be, and then the old name stays everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cfmessenger.clock import Clock
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.wire import protocol

if TYPE_CHECKING:
    from cfmessenger.data.names import Names

logger = logging.getLogger("cfmessenger.words")


class Answerable(Protocol):
    """The socket over which it was said."""

    def answer(self, frame: bytes) -> None: ...


class OwnWords:
    """At most one change and one wish a user are under way; `names` None: no rows."""

    def __init__(self, names: Names | None, clock: Callable[[], Clock]) -> None:
        self._names = names
        self._clock = clock
        self._wishes: dict[str, tuple[dict[str, str], Answerable]] = {}  # not begun yet
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by user, until it is done

    def want(self, user_id: str, words: dict[str, str], asker: Answerable) -> None:
        """Change these fields of the user's row, soon.

        `words` by the row's field names; what is not a change is passed over. `asker`
        gets an `error` frame if it fails (wire.md §1).
        """
        earlier = self._wishes.get(user_id)
        if earlier is not None:
            words = earlier[0] | words
        elif user_id not in self._tasks and not self._news(user_id, words):
            return
        self._wishes[user_id] = words, asker
        if user_id not in self._tasks:
            task = asyncio.create_task(self._work(user_id))
            self._tasks[user_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(user_id, None))

    def _news(self, user_id: str, words: dict[str, str]) -> bool:
        return self._names is None or self._names.differs(user_id, words)

    async def _work(self, user_id: str) -> None:
        while user_id in self._wishes:
            words, asker = self._wishes.pop(user_id)
            try:
                if self._names is None:
                    raise Unavailable()
                if self._news(user_id, words):
                    await self._names.change(user_id, words, self._clock().now())
            except ProtocolError as error:
                asker.answer(protocol.error_frame(error))
            except Unavailable:
                away = ProtocolError("STORAGE_UNAVAILABLE")
                asker.answer(protocol.error_frame(away))
            except Exception:
                logger.exception("words of %s cannot be changed", user_id)

    def end(self) -> None:
        """The gateway goes: changes under way are cancelled."""
        for task in self._tasks.values():
            task.cancel()
