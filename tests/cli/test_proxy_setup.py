"""What `recorder proxy` decides before it listens."""

import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.cli.proxy_setup import allow_files, default_ring_bytes
from recorder.errors import UsageError

MIB = 1 << 20


@pytest.mark.parametrize(
    ("free_mib", "workers", "ring_mib"),
    [
        (64, 1, 32),  # a container's own /dev/shm
        (128, 2, 32),
        (512, 1, 64),
        (2048, 1, 256),
        (2048, 4, 64),
        (1 << 20, 8, 256),
    ],
)
def test_a_ring_takes_its_share_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, workers: int, ring_mib: int
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=free_mib * MIB + 4095)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert default_ring_bytes(tmp_path / "not" / "there", workers) == ring_mib * MIB
    assert asked == [tmp_path]


def test_what_cannot_be_looked_at_gives_the_least(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def usage(_path: Path) -> SimpleNamespace:
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert default_ring_bytes(tmp_path, 1) == 32 * MIB


def test_where_nothing_is_recorded_nothing_is_taken(tmp_path: Path) -> None:
    assert default_ring_bytes(tmp_path, 0) == MIB


def test_a_ring_directory_that_is_not_there_is_not_passed_by(tmp_path: Path) -> None:
    missing = tmp_path / "tmpfs"
    options = ["proxy", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data"), "--ring-dir", str(missing)]
    failure = CliRunner().invoke(app, options).exception
    assert isinstance(failure, UsageError)
    assert failure.message == f"--ring-dir {missing}: no such directory"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("limits", "raised", "words"),
    [
        (
            (1024, 4096),
            (4096, 4096),
            "4096 files open here: fewer than 2048 sessions in a worker, not 10000",
        ),
        ((1024, 20000), (20000, 20000), None),
        ((65536, 65536), None, None),
        ((1024, resource.RLIM_INFINITY), (1 << 20, resource.RLIM_INFINITY), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, None),
    ],
)
def test_as_many_files_may_be_open_as_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None, words: str | None
) -> None:
    now: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: now.append(both))
    assert allow_files(10_000) == (words and f"a process may have {words}")
    assert now == ([raised] if raised else [])
