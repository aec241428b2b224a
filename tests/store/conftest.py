"""The steps in C, compiled for these tests, and what they carry between."""

import importlib.util
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.store import carry
from recorder.store.carry import Carrier
from recorder.store.carry_build import ffi
from recorder.store.ring import WINDOW, RingWriter
from recorder.store.ring_reader import RingReader

NEVER = 1 << 30


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("cc") is None:
        pytest.skip("needs cc")
    path = ffi.compile(tmpdir=str(tmp_path_factory.mktemp("carry")))
    spec = importlib.util.spec_from_file_location("recorder.store._carry", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "_carry", native)


class Lane:
    """Somebody who speaks, somebody who listens, and a carrier between them."""

    def __init__(self, directory: Path, *, capacity: int = 4 * WINDOW, sample_every: int = NEVER) -> None:
        self.speaker, self.source = socket.socketpair()
        self.sink, self.listener = socket.socketpair()
        for sock in (self.source, self.sink):
            sock.setblocking(False)
        self.writer = RingWriter(directory, capacity)
        carrier = self.writer.carrier(
            self.source.fileno(), self.sink.fileno(), kind=4, session_no=7, sample_every=sample_every
        )
        assert carrier is not None
        self.carrier: Carrier = carrier
        carrier.lane.until_sample = sample_every  # it would begin anywhere

    def carry(self) -> int:
        return self.carrier.carry(self.carrier.lane)

    def records(self) -> list[tuple[int, int, int, bytes]]:
        with RingReader(self.writer.path) as reader:
            return [(one.position, one.session_no, one.kind, bytes(one.data)) for one in reader.read()[0]]

    def close(self) -> None:
        for sock in (self.speaker, self.source, self.sink, self.listener):
            sock.close()
        self.writer.close()


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    lane = Lane(tmp_path)
    yield lane
    lane.close()
