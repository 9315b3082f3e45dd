"""How much memory there is: the machine's, or what a control group leaves of it."""

import gc
from pathlib import Path

import psutil
import pytest

from cfmessenger.memory import memory, settled

GIB = 2**30


def test_without_a_control_group_it_is_the_machines(tmp_path: Path) -> None:
    found = memory(tmp_path)
    assert found.total == psutil.virtual_memory().total
    assert 0 < found.share <= 1


@pytest.mark.parametrize("unlimited", ["max", str(2**63 - 4096)])
def test_a_group_without_a_limit_is_none(tmp_path: Path, unlimited: str) -> None:
    (tmp_path / "memory.max").write_text(f"{unlimited}\n")
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    assert memory(tmp_path).total == psutil.virtual_memory().total


def test_a_container_has_its_limit_less_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 2}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 4}\n")
    assert memory(tmp_path) == (GIB, GIB * 3 // 4)


def test_so_it_was_in_the_first_version(tmp_path: Path) -> None:
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(f"{GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{GIB + 4096}\n")
    (group / "memory.stat").write_text("total_inactive_file 0\n")
    assert memory(tmp_path) == (GIB, 0)


def test_what_a_settled_process_keeps_is_not_collected_and_the_rest_less_often() -> (
    None
):
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(1_000)]
    try:
        settled()
        assert gc.get_freeze_count() >= frozen + len(kept)
        young, looks, _ = gc.get_threshold()
        assert young > before[0]
        # What a look at the older may take, which is a pause.
        assert young * looks < 3 * before[0] * before[1]
    finally:
        gc.set_threshold(*before)
