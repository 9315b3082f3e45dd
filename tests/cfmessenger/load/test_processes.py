"""What processes did with their time, and what they are called."""

import asyncio

import pytest

from cfmessenger.load.machine import Usage, Watch, cost
from cfmessenger.load.processes import Seen, named, seen, spent


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/venv/bin/python3", "-m", "cfmessenger", "gateway"], "cfmessenger gateway"),
        (["/venv/bin/python", "/venv/bin/cfmessenger", "up"], "cfmessenger up"),
        (["ray::ObjectActor.run", "", ""], "ray::ObjectActor.run"),
        (["ray::IDLE"], "ray::IDLE"),
        (["/opt/valkey-server unixsocket:/tmp/x"], "valkey-server"),
        (["/usr/bin/python3.11", "-u", "/ray/agent.py"], "python3.11 agent.py"),
        (["nginx: worker process"], "nginx"),
        ([], "?"),
    ],
)
def test_a_process_is_called_what_people_know_it_by(
    command: list[str], name: str
) -> None:
    assert named(command) == name


def at(user: float, system: float, waited: float, **threads: float) -> Seen:
    return Seen("it", user, system, waited, threads)


def test_what_was_done_in_between_is_told_in_shares_the_busiest_first() -> None:
    before = {1: at(1.0, 1.0, 0.0, main=2.0), 2: at(5.0, 0.0, 0.0), 3: at(0, 0, 0)}
    after = {
        1: at(2.0, 1.5, 0.5, main=3.4, disk=0.1),
        2: at(5.0, 0.2, 0.0),
        4: at(9, 9, 9),
    }
    first, second = spent(before, after, 2.0)
    assert (first.pid, first.user, first.system, first.waited) == (1, 0.5, 0.25, 0.25)
    assert list(first.threads.items()) == [("main", 0.7), ("disk", 0.05)]
    assert (second.pid, second.share) == (2, 0.1)


async def test_a_process_that_computes_is_seen_at_a_full_core() -> None:
    child = await asyncio.create_subprocess_exec("sh", "-c", "while :; do :; done")
    try:
        # By all that its command line says: those of our own are left out, by a number.
        watch = Watch(str(child.pid))
        first = watch.look()
        assert not first.seen, "what we started is not the server"
        looks = [seen(child.pid, ["sh"], 0.0, 0.0)]
        while not looks[-1].threads.get("sh"):
            await asyncio.sleep(0.01)
            looks.append(seen(child.pid, ["sh"], 0.0, 0.0))
        assert looks[-1].waited_s >= looks[0].waited_s >= 0
    finally:
        child.kill()
        await child.wait()


def test_a_process_that_is_gone_was_doing_nothing() -> None:
    assert seen(2**22 + 1, ["x"], 0.0, 0.0) == Seen("x", 0.0, 0.0, 0.0, {})


def test_memory_a_socket_is_of_when_sockets_were_there() -> None:
    empty, before, end, after = (
        Usage(float(n), {}, kib * 1024, 0.0, 1.0)
        for n, kib in enumerate((100, 140, 170, 180))
    )
    early = cost(empty, before, end, after, sockets=10, sent=0, delivered=0)
    late = cost(
        empty, before, end, after, sockets=10, come_late=True, sent=0, delivered=0
    )
    assert (early.kib_per_socket, late.kib_per_socket) == (4.0, 8.0)


def test_the_cost_of_a_load_names_processes_and_the_machine() -> None:
    watch = Watch("no command line says this")
    looks = [watch.look() for _ in range(4)]
    server = cost(*looks, sockets=1, sent=1, delivered=1)
    assert server.processes == [] and server.machine is not None
    assert 0 <= server.machine <= 1
