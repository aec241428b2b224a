"""Somebody removes, or moves, the data directory of a proxy that runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from recorder.pipeline.catalog import Catalog
from tests.e2e.conftest import COMMAND, PATIENCE, RecorderProcess, eventually
from tests.e2e.test_life_cycle import Echo, call, options, says

Run = Callable[..., RecorderProcess]


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_calls_go_on_and_new_ones_are_recorded_into_a_new_directory(
    run: Run, data: Path, tmp_path: Path, how: str
) -> None:
    log = tmp_path / "log"
    with closing(Echo()) as echo, log.open("wb") as stderr:
        proxy = run(*options(echo, data), stderr=stderr)

        def said(words: str) -> bool:
            return words in log.read_text("utf-8")

        with call(proxy.address) as running:
            assert says(running, b"before") == b"before"
            eventually(lambda: any((data / "journal").glob("*.journal")), "the call has a journal")
            shutil.rmtree(data) if how == "removed" else data.rename(tmp_path / "elsewhere")
            eventually(lambda: said("was removed or replaced while it was recorded into"), "the recorder notices it")
            eventually(lambda: said("recorded no further"), "the call's loss is said")
            eventually((data / "proxy.lock").exists, "the lock is taken once more")
            assert says(running, b"after") == b"after"
            with call(proxy.address) as later:
                assert says(later, b"later") == b"later"
            second = subprocess.run(
                [*COMMAND, *options(echo, data)], capture_output=True, text=True, check=False, timeout=PATIENCE
            )
            assert "is in use by another proxy" in second.stderr
        assert proxy.stop() == 0
    with Catalog(data) as catalog:
        ((session_id,),) = catalog.query("SELECT session_id FROM sessions").rows()
        closed = catalog.recorded_events(session_id)[-1]
        assert b'"client_bytes":5,"server_bytes":5,' in (closed.message() or b"")
    assert not list((data / "quarantine").iterdir())
