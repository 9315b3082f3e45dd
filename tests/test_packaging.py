"""What is shipped: three packages in one wheel, one version, a lock of hashes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

import cfmessenger

ROOT = Path(__file__).parent.parent
PACKAGES = ("cfmessenger", "actors", "gateway")
PAGE = [f"gateway/api/docs/page.{kind}" for kind in ("html", "css", "mjs")]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    subprocess.run([*command, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"cfmessenger-{cfmessenger.__version__}-py3-none-any.whl"
    with ZipFile(wheel) as content:
        return set(content.namelist())


def test_the_wheel_holds_every_file_of_all_three_packages(shipped: set[str]) -> None:
    for package in PACKAGES:
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= shipped
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in shipped
    data = {"cfmessenger/accounts/users.json", "cfmessenger/load/report.css"}
    assert data | set(PAGE) <= shipped


def test_the_wheel_holds_nothing_else(shipped: set[str]) -> None:
    tops = {name.partition("/")[0] for name in shipped}
    assert tops == {*PACKAGES, f"cfmessenger-{cfmessenger.__version__}.dist-info"}


def test_the_changelog_begins_with_the_version() -> None:
    found = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert found and found[1] == cfmessenger.__version__


def test_every_locked_requirement_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    for requirement in requirements:
        pin, *hashes = requirement.replace("\\\n", " ").split(" --hash=sha256:")
        assert re.match(r"[a-z0-9-]+==[0-9][\w.]*( *;.*)?$", pin.strip()), pin
        assert hashes, pin
        assert all(re.fullmatch(r"[0-9a-f]{64}\s*", each) for each in hashes), pin


def test_the_lock_pins_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    locked = set(
        re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text())
    )
    names = {re.match(r"[a-z0-9-]+", each)[0] for each in declared}  # type: ignore[index]
    assert names <= locked
