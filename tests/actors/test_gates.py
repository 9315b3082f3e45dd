"""The output gate: everything comes out once, in order, and only when confirmed."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.gates import InputGate, OutputGate, Step
from cfmessenger.chat.effects import Append, Broadcast, Effect


def step(n: int, *seqs: int) -> Step[str]:
    effects: list[Effect] = []
    for seq in seqs:
        effects += [Append(seq, b"%d" % seq, shown=True)]
    return Step(effects or [Broadcast(b"ephemeral")], "g", n)


def numbers(steps: Iterable[Step[str]]) -> list[int]:
    return [each.n for each in steps]


def test_it_is_idle_while_nothing_is_pending() -> None:
    gate: OutputGate[str] = OutputGate()
    assert gate.idle
    assert not gate.flying
    gate.hold(step(1, 1))
    assert not gate.idle
    gate.take_off()
    assert (gate.idle, gate.flying) == (False, True)
    gate.land()
    assert (gate.idle, gate.flying) == (True, False)


def test_what_must_be_appended_is_told_at_take_off_in_order() -> None:
    gate: OutputGate[str] = OutputGate()
    for each in (step(1, 1), step(2), step(3, 2, 3)):
        gate.hold(each)
    assert gate.take_off() == [(1, b"1"), (2, b"2"), (3, b"3")]


def test_what_arrives_in_flight_is_the_next_flight() -> None:
    gate: OutputGate[str] = OutputGate()
    gate.hold(step(1, 1))
    gate.take_off()
    gate.hold(step(2, 2))
    gate.hold(step(3, 3))
    assert numbers(gate.land()) == [1]
    assert gate.take_off() == [(2, b"2"), (3, b"3")]
    assert numbers(gate.land()) == [2, 3]


def test_two_flights_at_once_are_our_bug() -> None:
    gate: OutputGate[str] = OutputGate()
    with pytest.raises(AssertionError):
        gate.land()
    gate.hold(step(1, 1))
    gate.take_off()
    with pytest.raises(AssertionError):
        gate.take_off()


def test_a_drop_leaves_nothing() -> None:
    gate: OutputGate[str] = OutputGate()
    gate.hold(step(1, 1))
    gate.take_off()
    gate.hold(step(2, 2))
    gate.drop()
    assert gate.idle
    assert gate.take_off() == []
    assert gate.land() == []


@given(st.lists(st.sampled_from(["durable", "ephemeral", "off", "land", "drop"])))
def test_steps_come_out_once_in_order_and_after_their_appends(ops: list[str]) -> None:
    gate: OutputGate[str] = OutputGate()
    held: list[int] = []
    flying: list[int] | None = None
    n = seq = 0
    appended: set[int] = set()
    for op in ops:
        if op in ("durable", "ephemeral"):
            n += 1
            seq += op == "durable"
            gate.hold(step(n, seq) if op == "durable" else step(n))
            held.append(n)
        elif op == "off" and flying is None:
            appended |= {s for s, _ in gate.take_off()}
            flying, held = held, []
        elif op == "land" and flying is not None:
            out = gate.land()
            assert numbers(out) == flying
            shown = {e.seq for s in out for e in s.effects if isinstance(e, Append)}
            assert shown <= appended
            flying = None
        elif op == "drop":
            gate.drop()
            held, flying = [], None
        assert gate.idle == (not held and flying is None)
        assert gate.flying == (flying is not None)


def test_what_comes_before_the_input_gate_opens_waits_in_order() -> None:
    gate: InputGate[str, int] = InputGate()
    assert not gate.open
    for sender, message in (("a", 1), ("b", 2), ("a", 3)):
        gate.keep(sender, message)
    gate.forget("b")
    assert gate.begin() == [("a", 1), ("a", 3)]
    assert gate.open
    assert gate.waiting == []


def test_a_shut_gate_keeps_what_waits_and_a_dropped_one_does_not() -> None:
    gate: InputGate[str, int] = InputGate()
    gate.begin()
    gate.keep("a", 1)
    gate.shut()
    assert (gate.open, gate.waiting) == (False, [("a", 1)])
    gate.drop()
    assert (gate.open, gate.waiting) == (False, [])
