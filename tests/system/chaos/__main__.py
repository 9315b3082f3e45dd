"""`python -m tests.system.chaos`: the bounded soak. Its exit code is the verdict.

0: nothing anomalous; 1: anomalies, and the folder with history, report and server logs
is kept; 2: the run itself failed. Takes the given seconds and at most 60 more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from cfmessenger.client.errors import ClientError
from cfmessenger.placement import MODES, Mode
from tests.system.chaos import history as h
from tests.system.chaos import report
from tests.system.chaos.checker import Anomaly, Limits, check
from tests.system.chaos.client import wrong
from tests.system.chaos.faults import POOLS, Nemesis
from tests.system.chaos.history import Event, History
from tests.system.chaos.messenger import Messenger
from tests.system.chaos.workload import PEOPLE, Population

SPARE_S = 60.0
STOP_S = 14.0
HEAL_S = 20.0
QUIET_S = 5.0
CONVERGE_S = 10.0
LEAVERS = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--placement", choices=MODES, default="auto")
    parser.add_argument("--pool-size", type=int, choices=POOLS, default=2)
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second")
    parser.add_argument("--hibernate-after", type=float, default=2.0)
    parser.add_argument("--only", default="", help="faults, comma-separated")
    parser.add_argument("--json", type=Path, help="write the report here too")
    parser.add_argument("--keep", action="store_true", help="keep the folder anyway")
    parser.add_argument("--check", type=Path, help="judge a history.jsonl again")
    return parser.parse_args()


class Run:
    """One soak: start, talk, hurt, heal, read everything, judge."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._history = History()
        self._rng = random.Random(options.seed)
        self._extra: list[Anomaly] = []
        self._began = time.monotonic()

    async def run(self) -> dict[str, Any]:
        options = self._options
        env = {
            "CFM_GATEWAYS": str(options.gateways),
            "CFM_CHAT_RATE": "0",
            "CFM_HIBERNATE_AFTER": str(options.hibernate_after),
            "CFM_PLACEMENT": options.placement,
            "CFM_POOL_SIZE": str(options.pool_size),
            # So that rooms move by themselves too, within a run.
            "CFM_HOT_SHARE": "3",
            "CFM_CALM_AFTER": "3",
        }
        messenger = Messenger(PEOPLE, **env)
        sys.stderr.write(f"seed {options.seed}, everything in {messenger.folder}\n")
        try:
            async with messenger:
                population = self._populate(messenger)
                nemesis = self._nemesis(messenger, population)
                try:
                    # What is left to stop `up` in.
                    async with asyncio.timeout(self._left_s(STOP_S)):
                        await self._load(population, nemesis)
                        await self._final(messenger, population)
                except (TimeoutError, ClientError) as error:
                    # Judged even so: what is there may tell why.
                    text = f"it could not go on: {error!r}"
                    self._extra.append(Anomaly("cut_short", text))
                await nemesis.heal()
                await population.stop()
                errors = messenger.errors()
                took = await messenger.stop()
        except BaseException:
            self._history.save(messenger.folder / "history.jsonl")
            raise
        if messenger.left:
            text = f"still ran after `up` ended: {messenger.left}"
            self._extra.append(Anomaly("left_running", text))
        return self._report(messenger, population, nemesis, took, errors)

    @property
    def _home(self) -> tuple[Mode, int]:
        options = self._options
        size = options.pool_size if options.placement != "dedicated" else 1
        return options.placement, size

    def _left_s(self, spare_s: float) -> float:
        end = self._began + self._options.seconds + SPARE_S - spare_s
        return float(max(1.0, end - time.monotonic()))

    def _populate(self, messenger: Messenger) -> Population:
        return Population(
            messenger,
            self._history,
            self._rng,
            rate=self._options.rate,
            hibernate_after=self._options.hibernate_after,
        )

    def _nemesis(self, messenger: Messenger, population: Population) -> Nemesis:
        return Nemesis(
            messenger,
            population,
            self._history,
            random.Random(self._rng.random()),
            hibernate_after=self._options.hibernate_after,
            home=self._home,
            only=[kind for kind in self._options.only.split(",") if kind],
        )

    async def _load(self, population: Population, nemesis: Nemesis) -> None:
        await population.start()
        began = time.monotonic()
        hurting = asyncio.create_task(nemesis.run())
        end = began + self._options.seconds
        while time.monotonic() < end and not hurting.done():
            self._progress(population, nemesis, time.monotonic() - began)
            await asyncio.sleep(min(0.5, max(0.0, end - time.monotonic())))
        hurting.cancel()
        await asyncio.wait([hurting])
        if not hurting.cancelled() and hurting.exception() is not None:
            raise hurting.exception()  # type: ignore[misc]
        await nemesis.heal()
        self._line("healing")

    def _progress(self, population: Population, nemesis: Nemesis, at: float) -> None:
        oks, faults = self._history.all(h.Ok), self._history.all(h.Fault)
        recent = sum(1 for ok in oks[-1000:] if ok.t > time.monotonic() - 2.0) / 2
        here = sum(each.connected.is_set() for each in population)
        waiting = sum(each.outstanding for each in population)
        self._line(
            f"{at:5.1f}/{self._options.seconds:.0f} s  {len(oks)} acknowledged "
            f"({recent:.0f}/s)  waiting {waiting}  sockets {here}  faults "
            f"{len(faults)} {nemesis.now}"
        )

    @staticmethod
    def _line(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    async def _final(self, messenger: Messenger, population: Population) -> None:
        """Heal, let some leave, be quiet, and read what everybody can read."""
        leavers = {messenger.user(PEOPLE - 1 - n) for n in range(LEAVERS)}
        population.talking.clear()
        if not await messenger.ready(HEAL_S):
            self._extra.append(Anomaly("not_healed", f"/readyz after {HEAL_S:.0f} s"))
        if not await population.settle(HEAL_S):
            late = [
                f"{e.name}{'' if e.connected.is_set() else ' is out'} {e.outstanding}"
                for e in population
                if not e.away and (e.outstanding or not e.connected.is_set())
            ]
            self._extra.append(Anomaly("not_settled", ", ".join(late)))
        await population.leave(leavers)
        self._line("quiet")
        await asyncio.sleep(QUIET_S)
        await self._presence(population)
        self._line("reading the logs")
        for room in population.rooms:
            self._history.logs[room] = await self._log(population, room)

    async def _presence(self, population: Population) -> None:
        """Judged after 5 s of quiet; how long it takes if it is not right then."""
        end = time.monotonic() + CONVERGE_S
        judged = True
        while True:
            wrong = False
            for source, online in await self._sources(population):
                t, truth = time.monotonic(), population.online
                wrong |= set(online) != set(truth)
                if judged or set(online) != set(truth):
                    sample = h.PresenceSample(t, source, online, truth, judged)
                    self._history.add(sample)
            if not wrong or time.monotonic() > end:
                return
            judged = False
            await asyncio.sleep(1.0)

    async def _sources(self, population: Population) -> list[tuple[str, list[str]]]:
        users = await population.client.users()
        online = [u.id for u in users if u.status != "offline" and not u.is_ai_bot]
        found = [("/api/users", sorted(online))]
        for each in population.watchers:
            assert each.presence is not None
            if each.connected.is_set():
                found.append((each.name, sorted(each.presence.roster)))
        return found

    async def _log(self, population: Population, room: str) -> list[Event]:
        user = next(each.user for each in population if each.room == room)
        session = population.session(user)
        events: list[Event] = []
        before: int | None = None
        while True:
            page = await session.messages(room, before=before, limit=100)
            events = [Event.of(message) for message in page.messages] + events
            if page.next_before is None:
                return events
            before = page.next_before

    def _report(
        self,
        messenger: Messenger,
        population: Population,
        nemesis: Nemesis,
        took: float,
        errors: dict[str, int],
    ) -> dict[str, Any]:
        if bugs := wrong(population.refusals):
            self._extra.append(Anomaly("internal_error", f"not let in: {bugs}"))
        anomalies = [*self._extra, *check(self._history, Limits())]
        found = report.summary(
            self._history,
            anomalies,
            self._options.seconds,
            seed=self._options.seed,
            placement=" ".join(map(str, self._home)),
            refusals=population.refusals,
            not_said=population.skipped,
            nothing_to_hurt=nemesis.missed,
            stop_s=round(took, 1),
            whole_run_s=round(time.monotonic() - self._began, 1),
            server_log=errors,
        )
        if anomalies or self._options.keep:
            found["kept_in"] = str(messenger.folder)
            self._history.save(messenger.folder / "history.jsonl")
            _write(messenger.folder / "report.json", found)
        else:
            messenger.discard()
        return found


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")


def judge_again(path: Path) -> int:
    """The verdict on a history that was kept."""
    history = History.load(path)
    anomalies = check(history)
    seconds = history.ended - min(i.t for i in history.all(h.Invoke))
    sys.stdout.write(report.text(report.summary(history, anomalies, seconds)) + "\n")
    return 1 if anomalies else 0


def main() -> int:
    options = arguments()
    if options.check is not None:
        return judge_again(options.check)
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    try:
        found = uvloop.run(Run(options).run())
    except (ClientError, TimeoutError, RuntimeError) as error:
        sys.stderr.write(f"\nthe run failed: {error!r}\n")
        return 2
    if options.json is not None:
        _write(options.json, found)
    sys.stderr.write("\r\x1b[K" if sys.stderr.isatty() else "")
    sys.stdout.write(report.text(found) + "\n")
    counts = found["server_log"].items()
    for text, count in list(counts)[:8]:
        sys.stdout.write(f"  server log: {count} x {text}\n")
    if "kept_in" in found:
        sys.stdout.write(
            f"kept: {found['kept_in']} (history.jsonl, report.json, up.log"
        )
        sys.stdout.write(", data/logs)\n")
    sys.stdout.write(f"verdict: {found['verdict']}\n")
    return 1 if found["anomalies"] else 0


if __name__ == "__main__":
    sys.exit(main())
