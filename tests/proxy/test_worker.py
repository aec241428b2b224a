"""A worker as a process of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from recorder.proxy.config import WorkerConfig
from recorder.proxy.upstream import Upstream
from recorder.proxy.worker import CONFIG_VARIABLE


@pytest.mark.parametrize("recording", [True, False])
def test_a_worker_whose_parent_has_gone_before_it_was_ready_just_ends(tmp_path: Path, recording: bool) -> None:
    config = WorkerConfig(
        upstream=Upstream.parse("ws://127.0.0.1:9"),
        data_dir=str(tmp_path),
        ring_dir=str(tmp_path / "ring"),
        ring_bytes=1 << 20,
        recording=recording,
    )
    outer, inner = socket.socketpair()
    outer.close()
    with inner, socket.create_server(("127.0.0.1", 0)) as listener:
        fds = [inner.fileno(), listener.fileno()]
        ended = subprocess.run(
            [sys.executable, "-m", "recorder.proxy.worker", *map(str, fds)],
            pass_fds=fds,
            env=os.environ | {CONFIG_VARIABLE: msgspec.json.encode(config).decode()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    left = [path.suffix for path in (tmp_path / "ring").iterdir()]
    assert left == ([".ring"] if recording else [])  # a ring is the recorder process's to remove, if there is one
