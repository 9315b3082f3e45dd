"""A search for how much a messenger takes, carried out: one run after another.

Owns the order and the bound in time. Each try is a whole run of the harness, with rooms
of its own and a warm-up; what a server had to end first it has ended, because a run
waits until all have settled. A run that the server does not let happen at all is a
value that broke, unless it is the first.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable

import msgspec

from . import profiler
from .capacity import AXES, Capacity, Search, Step, Thresholds, limit, step_of
from .machine import this_host, versions
from .plan import Plan
from .result import Result
from .run import Failure

Attempt = Callable[[Plan], Awaitable[Result]]


async def climb(
    plan_at: Callable[[float], Plan],
    attempt: Attempt,
    search: Search,
    thresholds: Thresholds,
    *,
    limit_s: float,
    tell: Callable[[Step], None],
) -> Capacity:
    """What `search` finds. Raises `Failure` when not even the first run can be made.

    No try begins after `limit_s` seconds; `tell` gets each as it ends.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    first = plan_at(search.next() or 1.0)
    found = Capacity(
        scenario=first.scenario,
        axis=AXES[first.scenario],
        url=first.url if first.target == "gateway" else first.namespace,
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        settings=msgspec.to_builtins(first),
        host=this_host(),
        versions=versions(),
        thresholds=thresholds,
    )
    while (value := search.next()) is not None:
        if loop.time() >= end:
            found.ended = "time"
            break
        plan = plan_at(value)
        try:
            result = await attempt(plan)
        except Failure as failure:
            if not found.steps:
                raise
            step = Step(value=value, broke=[str(failure)])
        else:
            step = step_of(result, plan.scenario, value, thresholds)
            found.violations += result.oracle.examples
        found.steps.append(step)
        search.tell(value, step.held)
        tell(step)
        if found.violations:
            found.ended = "violation"
            break
    else:
        found.ended = search.ended or "precise"
    found.held, found.broke = search.held, search.broke
    if (breaking := found.breaking) is not None:
        found.limit = limit(breaking, thresholds)
        await _look_into(found, plan_at(breaking.value), attempt)
    return found


async def _look_into(found: Capacity, plan: Plan, attempt: Attempt) -> None:
    """Where the process that was in the way spends its time, in one more run."""
    if found.limit is None or found.limit.process is None or not profiler.there():
        return
    pid = found.limit.process.pid

    async def sampled() -> dict[str, float]:
        await asyncio.sleep(plan.warmup_s)
        return await profiler.functions(pid, plan.duration_s)

    sampling = asyncio.create_task(sampled())
    try:
        await attempt(plan)
    except Failure:
        pass  # it broke before, too
    finally:
        found.limit.functions = await sampling
