"""The balancer in front of all gateways: haproxy on the host's side of the bridge.

No stickiness: each connection goes to the next gateway that says it is ready. Those to
a machine that is silent end after some 9 s (keepalives and `tcp-ut`), and with them the
clients' own: nobody else can tell people whose gateway is cut off. Those to one that is
unready stay, for it drains.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cfmessenger.cli import process
from tests.patience import within

PORT = 8000
_CONFIG = """\
global
  maxconn 4000
defaults
  mode http
  retries 3
  option redispatch
  timeout connect 1s
  timeout client 60s
  timeout server 15s
  timeout tunnel 1h
  option srvtcpka
  srvtcpka-idle 3s
  srvtcpka-intvl 2s
  srvtcpka-cnt 3
frontend edge
  bind {host}:{port}
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host {host}:{port}
  http-check expect status 200
  default-server check inter 1s fall 2 rise 1
"""


class Balancer:
    """`start` once the gateways serve."""

    def __init__(self, host: str, servers: Mapping[str, str], folder: Path) -> None:
        self.url = f"http://{host}:{PORT}"
        self._host = host
        self._config = folder / "haproxy.cfg"
        self._log = folder / "haproxy.log"
        lines = [
            f"  server {name} {at}:{PORT} tcp-ut 8s\n" for name, at in servers.items()
        ]
        text = _CONFIG.format(host=host, port=PORT)
        self._config.write_text(text + "".join(lines))
        self._process: subprocess.Popen[bytes] | None = None  # from `start` to `stop`

    async def start(self) -> None:
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = process.spawn(
                ["haproxy", "-db", "-f", str(self._config)],
                os.environ,
                death_signal=signal.SIGKILL,
                output=output,
            )
        finally:
            os.close(output)
        await answers(self._host, PORT, "/readyz")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


async def answers(host: str, port: int, path: str) -> None:
    """Until a GET of it is answered 200; fails after 30 s."""
    async with within(30.0):
        while await status(host, port, path) != 200:  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.05)


async def status(host: str, port: int, path: str) -> int:
    """The status of a GET; 0 when there is no answer within 2 s."""
    writer = None
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            return int((await reader.readline()).split()[1])
    except (OSError, TimeoutError, IndexError):
        return 0
    finally:
        if writer is not None:
            writer.close()
