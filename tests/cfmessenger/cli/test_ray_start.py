"""Ray's command line as it is run here: nothing secret is in an argument."""

import os
import subprocess
from pathlib import Path

from ray._private import services

from cfmessenger.cli.ray_start import hidden

SECRET = 'hush, it\'s "quoted" and --long=er'


def test_secret_flags_go_into_the_environment() -> None:
    command = ["gcs_server", "--redis_address=v", f"--redis_password={SECRET}"]
    left, env = hidden([*command, "--redis_username=u", "--port=1"])
    assert left == [
        *("gcs_server", "--redis_address=v", "--port=1"),
        "--fromenv=redis_password,redis_username",
    ]
    assert env == {"FLAGS_redis_password": SECRET, "FLAGS_redis_username": "u"}
    assert hidden(["raylet", "--port=1"]) == (["raylet", "--port=1"], {})


def test_rays_control_store_reads_them_there() -> None:
    server = services.GCS_SERVER_EXECUTABLE
    assert Path(server).exists()
    flags = [server, "--fromenv=redis_password", "--helpmatch=gcs_server_main"]
    env = {"FLAGS_redis_password": "of-the-environment", "PATH": os.defpath}
    done = subprocess.run(flags, env=env, capture_output=True, text=True, timeout=60)
    assert 'currently: "of-the-environment"' in " ".join(done.stdout.split())
