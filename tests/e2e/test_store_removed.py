"""Somebody removes, or moves, the data directory of a proxy that runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.pipeline.catalog import Catalog
from tests.e2e.conftest import COMMAND, PATIENCE, RecorderProcess, eventually, free_port
from tests.e2e.test_observability import Admin, Call

Run = Callable[..., RecorderProcess]

BEFORE, AFTER = b'{"type": "before"}', b'{"type": "after"}'


def told(catalog: Catalog, session_id: str) -> list[tuple[str, Any]]:
    """A session's events: of our own type and facts, of messages who said what."""
    return [
        (event.type or "", msgspec.json.decode(event.message()))
        if event.direction == "recorder"
        else (event.direction, event.payload)
        for event in catalog.recorded_events(session_id)
    ]


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_calls_go_on_in_a_new_directory_and_what_is_missing_is_said(
    run: Run, data: Path, tmp_path: Path, how: str
) -> None:
    admin, log = Admin(free_port()), tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as stderr:
        options = ["proxy", "--listen", "127.0.0.1:0", "--data", str(data), "--ring-mb", "4"]
        options += ["--upstream", f"ws://127.0.0.1:{listener.getsockname()[1]}", "--admin", f"127.0.0.1:{admin.port}"]
        proxy = run(*options, stderr=stderr)

        def said(words: str) -> bool:
            return words in log.read_text("utf-8")

        with closing(Call(proxy, listener)) as running, closing(Call(proxy, listener)) as silent:
            up, down = running.say(BEFORE)
            eventually(lambda: len(list((data / "journal").glob("*.journal"))) == 2, "the calls have journals")
            data.rename(tmp_path / "elsewhere")  # at once: what is written during a removal would stay
            if how == "removed":
                shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
            eventually(lambda: said("was removed or replaced while it was recorded into"), "the recorder notices it")
            eventually(lambda: said(f"{up + down} bytes were forwarded and are not recorded: store removed"), "the gap")
            eventually((data / "proxy.lock").exists, "the lock is taken once more")
            with closing(Call(proxy, listener)) as later:
                carried = [one.say(AFTER) for one in (running, silent, later)]
            second = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False, timeout=PATIENCE)
            assert "is in use by another proxy" in second.stderr
        counted = admin.metrics()
        assert proxy.stop() == 0
    names = [f'recorder_gap_bytes_total{{direction="{direction}"}}' for direction in ("client", "server")]
    assert [counted[name] for name in (*names, "recorder_gaps_total")] == [up, down, 2]
    with Catalog(data) as catalog:
        ids = [session_id for (session_id,) in catalog.query("SELECT session_id FROM sessions ORDER BY 1").rows()]
        first, *others = (told(catalog, session_id) for session_id in ids)
    assert [kind for kind, _ in first[:2]] == ["recorder.session_opened", "recorder.handshake_completed"]
    assert first[2:-1] == [
        ("recorder.gap", {"direction": "client", "bytes": up, "reason": "store removed"}),
        ("recorder.gap", {"direction": "server", "bytes": down, "reason": "store removed"}),
        ("client", AFTER.decode()),
        ("server", 2 * AFTER.decode()),
    ]
    closed = first[-1][1]
    expected = (up + carried[0][0], down + carried[0][1], up + down)
    assert (closed["client_bytes"], closed["server_bytes"], closed["missed_bytes"]) == expected
    assert len(others) == 2
    for events, traffic in zip(others, carried[1:], strict=True):
        assert events[2:-1] == [("client", AFTER.decode()), ("server", 2 * AFTER.decode())]
        closed = events[-1][1]
        assert (closed["client_bytes"], closed["server_bytes"], closed["missed_bytes"]) == (*traffic, 0)
    assert not list((data / "quarantine").iterdir())
