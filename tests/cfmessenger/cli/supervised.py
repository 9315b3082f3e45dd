"""A process with a supervisor in it, for `test_cli_supervisor`.

A supervisor collects every child of its process, so it cannot live in pytest's. Runs
the scenario named on the command line, on the data folder named second, and prints what
the test looks at.
"""

import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

from cfmessenger.cli import process
from cfmessenger.cli.service import Launch, Service
from cfmessenger.cli.supervisor import StartFailed, Supervisor
from tests.patience import Stopwatch

READY = "import os; os.write(int(os.environ['CFMX_READY_FD']), b'ready\\n')\n"
SLEEP = "import time; time.sleep(60)\n"
# Beats as often as it is looked at, and then some.
WATCH_S = 0.1
BEATS = (
    "import os, time\n"
    "voice = int(os.environ['CFMX_READY_FD'])\n"
    "os.write(voice, b'ready\\n.\\n')\n"
    "while True: os.write(voice, b'.\\n'); time.sleep(0.02)\n"
)
FAILS = "import os; os.write(int(os.environ['CFMX_READY_FD']), b'failed X: no\\n')\n"
# Leaves a process in its session, and one that left even that.
STRAYS = (
    "import subprocess, sys\n"
    "sleep = [sys.executable, '-S', '-c', 'import time; time.sleep(60)']\n"
    "subprocess.Popen(sleep)\n"
    "subprocess.Popen(sleep, start_new_session=True)\n"
)


def service(name: str, script: str, **more: object) -> Service:
    command = [sys.executable, "-S", "-c", script]
    return Service(name, lambda: Launch(command, dict(os.environ)), **more)  # type: ignore[arg-type]


def pid(supervisor: Supervisor, name: str) -> int:
    found = supervisor.pid(name)
    assert found is not None
    return found


async def another(supervisor: Supervisor, name: str, before: int) -> int:
    """The id of the child's next process."""
    while (found := supervisor.pid(name)) in (None, before):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert found is not None
    return found


async def order(supervisor: Supervisor) -> None:
    last = (
        "import signal, sys\nsignal.signal(15, lambda *_: (print(NAME), sys.exit()))\n"
    )
    for name, needs in (("b", ("a",)), ("a", ())):
        named = f"NAME = {name!r}\nprint('start', NAME, flush=True)\n"
        supervisor.start(service(name, named + last + READY + SLEEP, needs=needs))
    await supervisor.ready()
    now = asyncio.get_running_loop().time()
    await supervisor.stop(["b"], now + 5)
    await supervisor.stop(["a", "unknown"], now + 5)


async def restart(supervisor: Supervisor) -> None:
    supervisor.start(service("a", READY + SLEEP))
    await supervisor.ready()
    first = pid(supervisor, "a")
    os.kill(first, signal.SIGKILL)
    second = await another(supervisor, "a", first)
    await supervisor.ready()
    report("restarted", second != first)


async def failing(supervisor: Supervisor) -> None:
    supervisor.start(service("a", "raise SystemExit(7)"))
    try:
        await supervisor.ready()
    except StartFailed as error:
        report(str(error))


async def silent(supervisor: Supervisor) -> None:
    supervisor.start(service("a", SLEEP, ready_s=0.1))
    try:
        await supervisor.ready()
    except StartFailed as error:
        report(str(error))


async def missing(supervisor: Supervisor) -> None:
    launch = Launch(["/does/not/exist"], {})
    supervisor.start(Service("a", lambda: launch))
    try:
        await supervisor.ready()
    except StartFailed as error:
        report(str(error))


async def stubborn(supervisor: Supervisor) -> None:
    ignore = "import signal; signal.signal(15, signal.SIG_IGN)\n"
    supervisor.start(service("a", ignore + READY + SLEEP))
    await supervisor.ready()
    began = Stopwatch()
    await supervisor.stop(["a"], asyncio.get_running_loop().time() + 0.3)
    report("killed after its time", began.wall >= 0.3 and began.seconds < 3)


async def follower(supervisor: Supervisor) -> None:
    supervisor.start(service("a", READY + SLEEP))
    supervisor.start(service("b", READY + SLEEP, needs=("a",), follows="a"))
    await supervisor.ready()
    a, b = pid(supervisor, "a"), pid(supervisor, "b")
    os.kill(a, signal.SIGKILL)
    await another(supervisor, "b", b)
    report("b went with a", pid(supervisor, "a") != a)


async def strays(supervisor: Supervisor) -> None:
    supervisor.start(service("a", STRAYS + READY + SLEEP))
    await supervisor.ready()
    first = pid(supervisor, "a")
    report("members", len(process.session_members(first)))
    os.kill(first, signal.SIGKILL)
    await another(supervisor, "a", first)
    report("left in its session", len(process.session_members(first)))


async def impatient(supervisor: Supervisor) -> None:
    supervisor.start(service("a", READY + SLEEP))
    await supervisor.ready()
    supervisor.start(service("b", "raise SystemExit(1)"))
    supervisor.start(service("c", SLEEP, needs=("b",)))
    await another(supervisor, "b", 0)
    supervisor.kill_all()
    await supervisor.stop(["a", "b", "c"], asyncio.get_running_loop().time() + 5)
    report("none runs", [supervisor.pid(name) for name in ("a", "b", "c")])


async def backoff(supervisor: Supervisor) -> None:
    supervisor.start(service("a", READY + SLEEP))
    await supervisor.ready()
    gaps = []
    for _ in range(4):
        before, died = pid(supervisor, "a"), Stopwatch()
        os.kill(before, signal.SIGKILL)
        await another(supervisor, "a", before)
        gaps.append(died.wall)
        calm = died.seconds
        await supervisor.ready()
    # What the third and the last wait at least, and the last in calm seconds at most.
    report("grows", gaps[2] >= 0.4 and gaps[3] >= 0.8 and calm < 2)


async def never_two(supervisor: Supervisor) -> None:
    """Whatever raises once it runs: there is one process of it, or none."""
    counts, broken = [], True

    async def probe() -> bool:
        counts.append(len(process.descendants(os.getpid())))
        if broken:
            raise RuntimeError("a bug")
        return True

    supervisor.start(service("a", SLEEP, probe=probe))
    while len(counts) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    broken = False
    while supervisor.pid("a") is None or len(counts) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    report("at once", set(counts))


async def heals(supervisor: Supervisor) -> None:
    """What has to be written for a start cannot be, for a while; nor afterwards."""
    supervisor.start(service("first", READY + SLEEP))
    await supervisor.ready()
    tries, full = [], True

    def launch() -> Launch:
        tries.append(len(process.descendants(os.getpid())))
        if full and len(tries) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Launch([sys.executable, "-S", "-c", READY + SLEEP], dict(os.environ))

    def ended(pid: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    supervisor.start(Service("a", launch, ended=ended))
    await supervisor.ready()
    before = pid(supervisor, "a")
    os.kill(before, signal.SIGKILL)
    while len(tries) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    full = False
    await another(supervisor, "a", before)
    report("others at each try", set(tries))


async def hung(supervisor: Supervisor) -> None:
    supervisor.start(service("a", BEATS))
    await supervisor.ready()
    first = pid(supervisor, "a")
    os.kill(first, signal.SIGSTOP)
    await another(supervisor, "a", first)
    report("gone", process.entry(first) is None)


async def deaf(supervisor: Supervisor) -> None:
    """Its own service's probe is not answered any more."""
    hears = True

    async def alive() -> bool:
        if not hears:
            await asyncio.sleep(60)
        return True

    supervisor.start(service("a", READY + SLEEP, alive=alive))
    await supervisor.ready()
    first, hears = pid(supervisor, "a"), False
    await another(supervisor, "a", first)
    report("gone", process.entry(first) is None)


async def deleted(supervisor: Supervisor) -> None:
    file = f"{sys.argv[2]}/socket"
    script = f"open({file!r}, 'w').close()\n" + READY + SLEEP
    supervisor.start(service("a", script, reached=lambda: os.path.exists(file)))
    await supervisor.ready()
    first = pid(supervisor, "a")
    os.unlink(file)
    await another(supervisor, "a", first)
    await supervisor.ready()
    report("there again", os.access(file, os.R_OK))


async def says_why(supervisor: Supervisor) -> None:
    began = []

    def launch() -> Launch:
        began.append(1)
        script = FAILS + "raise SystemExit(3)"
        return Launch([sys.executable, "-S", "-c", script], dict(os.environ))

    supervisor.start(Service("a", launch))
    try:
        await supervisor.ready()
    except StartFailed as error:
        report(str(error), error.code, len(began))


async def lost(supervisor: Supervisor) -> None:
    """One that follows says that what it follows does not answer."""
    fuse = f"{sys.argv[2]}/fuse"
    gives_up = (
        f"import os, time\nwhile not os.path.exists({fuse!r}): time.sleep(0.01)\n"
        "os._exit(75)\n"
    )
    supervisor.start(service("a", READY + SLEEP))
    supervisor.start(service("b", READY + gives_up, needs=("a",), follows="a"))
    await supervisor.ready()
    first = pid(supervisor, "a")
    os.close(os.open(fuse, os.O_CREAT))
    await another(supervisor, "a", first)
    os.unlink(fuse)
    report("replaced", process.entry(first) is None)


def report(*what: object) -> None:
    print(*what, flush=True)  # noqa: T201 (what the test reads)


async def main(scenario: str, folder: Path) -> None:
    supervisor = Supervisor(WATCH_S)
    supervisor.open()
    try:
        await globals()[scenario](supervisor)
    finally:
        await supervisor.close()
    report("descendants", len(process.descendants(os.getpid())))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
