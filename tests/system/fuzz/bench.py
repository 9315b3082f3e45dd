"""One case of the frame fuzzer: a socket, what it is sent, and what must come back."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from tests.system.fuzz import oracle
from tests.system.fuzz.inputs import GONE, Frame, Step
from tests.system.fuzz.line import CLOSE, PONG, TEXT, Line, frame

DURABLE = ("chat", "nudge", "wink")


@dataclass
class Bench:
    """The gateway under test, and what was seen of it.

    `told` is what the witness has still to see, `known` every message by its id.
    """

    port: int
    path: str
    tokens: tuple[str, str]
    room: bool
    cases: int = 0
    probes: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    seq: int = 0
    told: list[Frame] = field(default_factory=list)
    known: dict[str, Frame] = field(default_factory=dict)

    def open(self, whose: int = 0) -> Line:
        path = f"{self.path}?since={self.seq}" if self.room else self.path
        return Line.open(self.port, path, self.tokens[whose])

    def run(self, steps: list[Step], end: Step | None) -> None:
        """One case: steps and a good message; then the end, and a good one again."""
        self.cases += 1
        self.steps.update(step.name for step in [*steps, *([end] if end else [])])
        with closing(self.open()) as line:
            self._survives(line, steps)
            if end is None:
                return
            line.send(end.data)
            if end.closes != GONE:
                # What came before the end in the same breath need not be answered.
                got = Got()
                while (found := line.frame()) is not None:
                    got.take(line, *found)
                assert got.close in end.closes, (got.close, end)
                assert not got.said and not got.pongs
        with closing(self.open()) as line:
            self._survives(line, [])

    def _survives(self, line: Line, steps: list[Step]) -> None:
        """Everything is answered as it should be, and so is the next good message."""
        self.probes += 1
        name = f"probe-{self.probes}"
        probe = (
            {"type": "chat", "content": "still there?", "id": name}
            if self.room
            else {"type": "ping", "t": -self.probes}
        )
        for step in steps:
            line.send(step.data)
        line.send((frame(TEXT, json.dumps(probe).encode()),))
        wanted = [answer for step in steps for answer in step.answers]
        kind = "said" if self.room else "pong"
        wanted.append(oracle.Verdict(kind, fields={**probe}))
        got = self._read(line, probe, Counter(answer.kind for answer in wanted))
        by_kind = {
            kind: [answer for answer in wanted if answer.kind == kind]
            for kind in ("said", "error", "pong")
        }
        assert got.close is None, got.close
        # What is too large the gateway says itself, and does not wait for the room.
        due = self._errors(wanted)
        assert got.errors.count("TOO_LARGE") == due.count("TOO_LARGE")
        by_the_room = [code for code in got.errors if code != "TOO_LARGE"]
        assert by_the_room == [code for code in due if code != "TOO_LARGE"]
        assert got.controls == [payload for step in steps for payload in step.pongs]
        assert [each.get("t") for each in got.pongs] == [
            answer.fields.get("t") for answer in by_kind["pong"]
        ]
        self._check_said(got.said, [answer.fields for answer in by_kind["said"]])

    def _errors(self, wanted: list[oracle.Verdict]) -> list[str]:
        """The errors in order: also of an id that comes again with other words."""
        words = {own_id: _words(echo) for own_id, echo in self.known.items()}
        codes = []
        for answer in wanted:
            own_id = answer.fields.get("id")
            if answer.kind == "error":
                codes.append(answer.code)
            elif answer.kind == "said" and own_id is not None:
                said = _words(answer.fields)
                if words.setdefault(own_id, said) != said:
                    codes.append("ID_REUSED")
        return codes

    def _check_said(self, said: list[Frame], asked: list[Frame]) -> None:
        """Each once and in order; an id that was known, by its first echo, any time."""
        taken = {*self.known}
        fresh = []
        for fields in asked:
            if "id" not in fields or fields["id"] not in taken:
                fresh.append(fields)
                taken.add(fields.get("id", ""))
        assert len(said) == len(asked), (said, asked)
        for echo in said:
            before = self.known.get(echo["id"])
            if before is not None:
                assert echo == before
                continue
            assert echo.items() >= fresh.pop(0).items()
            assert echo["senderId"] == "user_1"
            assert echo["seq"] == self.seq + 1
            self.seq = echo["seq"]
            self.known[echo["id"]] = echo
            self.told.append(echo)
        assert not fresh, fresh

    def _read(self, line: Line, probe: Frame, wanted: Counter[str]) -> Got:
        """Everything until the probe is answered and what else is due has come."""
        got = Got()
        while not (
            got.answers(probe)
            and len(got.errors) >= wanted["error"]
            and len(got.said) >= wanted["said"]
        ):
            found = line.frame()
            if found is None:
                break
            got.take(line, *found)
        return got


@dataclass
class Got:
    """What a socket was told."""

    said: list[Frame] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pongs: list[Frame] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)
    close: int | None = None

    def take(self, line: Line, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self.close = int.from_bytes(payload[:2], "big") if payload else 1005
            line.send((frame(CLOSE, payload[:2]),))
        elif opcode == PONG:
            self.controls.append(payload)
        elif opcode == TEXT:
            self._message(json.loads(payload))

    def _message(self, told: Frame) -> None:
        assert None not in told.values(), told
        if told["type"] in DURABLE:
            self.said.append(told)
        elif told["type"] == "pong":
            self.pongs.append(told)
        elif told["type"] == "error":
            assert set(told) <= {
                "type",
                "code",
                "message",
                "content",
                "retryable",
                "id",
            }
            self.errors.append(told["code"])

    def answers(self, probe: Frame) -> bool:
        if probe["type"] == "ping":
            return any(told.get("t") == probe["t"] for told in self.pongs)
        return any(told["id"] == probe["id"] for told in self.said)


def witnessed(bench: Bench, witness: Line) -> None:
    """Somebody else in the room has seen what was accepted, once and in order."""
    seen: list[Frame] = []
    while len(seen) < len(bench.told):
        message = witness.message()
        assert message is not None, "the witness was thrown out"
        assert message["type"] != "error", message
        if message["type"] in DURABLE:
            seen.append(message)
    assert seen == bench.told
    bench.told.clear()


def _words(message: Frame) -> tuple[str, str | None]:
    """What of a chat, nudge or wink counts as said."""
    kind = message["type"]
    return kind, message.get({"chat": "content", "wink": "winkId"}.get(kind, ""))
