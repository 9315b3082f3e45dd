"""An asyncio event loop in virtual time, and the processes that live on it.

There is no selector and no thread: when nothing is ready, the clock jumps to the next
timer. Every callback belongs to the process whose context scheduled it, so a process
can die between any two callbacks (at any await), or stand still and go on later, as
after SIGSTOP and SIGCONT. Everything runs in one order that the seed decides.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from cfmessenger.clock import Clock

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar(
    "process", default=None
)
EPOCH_MS = 1_700_000_000_000


class Stuck(Exception):
    """Nothing is ready and no timer runs: the simulation can never go on."""


class Died(BaseException):
    """Raised in a process that dies in the middle of a callback."""


class Process:
    """A simulated operating-system process: some callbacks share its fate.

    `fuse`: after so many more of its callbacks it dies, and `on_death` is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.fuse = 0
        self.on_death: Callable[[], None] = lambda: None
        self.parked: deque[asyncio.Handle] = deque()
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name

    def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call something as this process."""
        return self.context.copy().run(call, *args)


class SimLoop(asyncio.BaseEventLoop):
    """The loop of a whole world. `failures` are exceptions that nobody caught."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.callbacks = 0
        self.network: Any = None
        self._now = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, asyncio.TimerHandle, Process | None]] = []
        self._queue: deque[tuple[Process | None, asyncio.Handle]] = deque()
        self.set_exception_handler(self._failed)
        self.set_task_factory(self._make_task)

    # Time and callbacks.

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append((context.get(PROCESS), handle))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        process = context.get(PROCESS)
        heapq.heappush(self._due, (when, next(self._order), handle, process))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _run_once(self) -> None:
        queue, due = self._queue, self._due
        if not queue:
            while due and due[0][2].cancelled():
                heapq.heappop(due)
            if due:
                self._now = max(self._now, due[0][0])
            elif not self._stopping:  # type: ignore[attr-defined]
                raise Stuck
        while due and due[0][0] <= self._now:
            _, _, timer, process = heapq.heappop(due)
            queue.append((process, timer))
        for _ in range(len(queue)):
            process, handle = queue.popleft()
            if handle.cancelled():
                continue
            if process is not None and not self._may_run(process, handle):
                continue
            self.callbacks += 1
            handle._run()

    @staticmethod
    def _may_run(process: Process, handle: asyncio.Handle) -> bool:
        if not process.alive:
            return False
        if process.frozen:
            process.parked.append(handle)
            return False
        if process.fuse:
            process.fuse -= 1
            if not process.fuse:
                process.on_death()
                return False
        return True

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on with everything that waited for it."""
        process.frozen = False
        parked, process.parked = process.parked, deque()
        self._queue.extend((process, handle) for handle in parked)

    # Tasks.

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        **how: Any,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **how)
        # Kept to the end: what the garbage collector finalises, it does when it likes.
        self.tasks.append(task)
        return task

    def _failed(self, loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        error = about.get("exception")
        if not isinstance(error, Died):
            self.failures.append(f"{about.get('message')}: {error!r}")

    def dismantle(self) -> None:
        """The end of the world: nothing that is left may run or complain."""
        self._queue.clear()
        self._due.clear()
        for task in self.tasks:
            if task.done():
                if not task.cancelled():
                    task.exception()
            else:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        self._queue.clear()
        self._due.clear()
        self.tasks.clear()
        self.close()

    # What BaseEventLoop would ask of a selector.

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None: ...

    # The network stands in for sockets.

    async def create_server(  # type: ignore[override]
        self, factory: Any, host: Any, port: Any, *, start_serving: bool = True
    ) -> Any:
        return self.network.listen(PROCESS.get(), factory, host, port)

    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any, port: Any, ssl: Any = None
    ) -> Any:
        return await self.network.connect(PROCESS.get(), factory, (host, port))

    async def create_unix_connection(self, factory: Any, path: Any) -> Any:  # type: ignore[override]
        return await self.network.connect(PROCESS.get(), factory, (path, 1))


def _close(work: Any) -> None:
    """End a coroutine; one that never began still holds those it was given."""
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        for value in inspect.getcoroutinelocals(work).values():
            if inspect.iscoroutine(value):
                _close(value)
    work.close()


class SimClock(Clock):
    """Wall-clock milliseconds of the virtual world."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> int:
        return EPOCH_MS + int(self._loop.time() * 1000)

    def hear(self, said: int, took: int) -> None:
        """It is the server's very clock."""
