"""Node.js runs the web client's own unit tests (*.test.mjs); each is a subtest here.

The modules are those that the gateway serves, loaded as they are. Nothing is installed:
the runner and its assertions are Node's.
"""

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")
OLDEST = 20
SUITES = sorted(path.name for path in HERE.glob("*.test.mjs"))


@pytest.fixture(scope="module")
def node() -> str:
    if NODE is None:
        pytest.skip("no Node.js on the PATH (apt-get install nodejs)")
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)", said)
    if found is None or int(found[1]) < OLDEST:
        pytest.skip(f"Node.js {said.strip()} is older than {OLDEST}")
    return NODE


@pytest.mark.parametrize("suite", SUITES)
def test_the_web_client(suite: str, node: str, subtests: pytest.Subtests) -> None:
    command = [node, "--no-warnings", "--experimental-vm-modules"]
    command += ["--test-reporter=junit", "--test", str(HERE / suite)]
    ran = subprocess.run(command, capture_output=True, text=True)
    try:
        cases = list(ElementTree.fromstring(ran.stdout).iter("testcase"))
    except ElementTree.ParseError:
        pytest.fail(ran.stdout + ran.stderr)
    for case in cases:
        with subtests.test(case.attrib["name"]):
            failure = case.find("failure")
            assert failure is None, failure.text if failure is not None else ""
    assert cases
    assert ran.returncode == 0, ran.stdout + ran.stderr
