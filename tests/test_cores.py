"""The number of cores that a process may use, by the limit of its container."""

from pathlib import Path

import pytest

from segserve import settings


@pytest.fixture(autouse=True)
def _eight_cores_and_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name in ("CGROUP_CPU_QUOTA", "CGROUP_V1_CPU_QUOTA", "CGROUP_V1_CPU_PERIOD"):
        monkeypatch.setattr(settings, name, tmp_path / name)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_limit_of_version_2(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "CGROUP_CPU_QUOTA").write_text(limit + "\n")
    assert settings.count_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("350000", 4)])
def test_a_limit_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "CGROUP_V1_CPU_QUOTA").write_text(quota + "\n")
    (tmp_path / "CGROUP_V1_CPU_PERIOD").write_text("100000\n")
    assert settings.count_cores() == cores


def test_without_a_control_group() -> None:
    assert settings.count_cores() == 8
