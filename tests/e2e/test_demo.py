"""`recorder demo` as a newcomer runs it: conversations by the real SDK, checks over HTTP, and a clean end."""

import importlib.util
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api import create_app
from recorder.cli import demo_checks
from recorder.cli.main import app
from recorder.errors import DemoError, UsageError
from recorder.pipeline.catalog import Catalog
from recorder.store.journal_files import list_journals

COMMAND = [sys.executable, "-c", "from recorder.cli.main import main; main()", "demo"]
PATIENCE = 120


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [*COMMAND, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def port_of_proxy(process: "subprocess.Popen[str]") -> int:
    """The demo says where its proxy listens when all parts are up."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert "ws://127.0.0.1:" in line, process.stderr.read()
    return int(line.rpartition(":")[2].split()[0])


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The directory of a demo that ran once, and what it printed. An older store lay there."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / ".demo" / "data" / "segments").mkdir(parents=True)
    (folder / ".demo" / "data" / "segments" / "old").touch()
    process = start(folder, "--once")
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return folder, out, errors


@pytest.fixture(scope="module")
def catalog(given: tuple[Path, str, str]) -> Iterator[Catalog]:
    with Catalog(given[0] / ".demo" / "data") as opened:
        yield opened


def test_it_checks_its_own_pages(given: tuple[Path, str, str]) -> None:
    _, out, errors = given
    checked = [line for line in out.splitlines() if line.startswith("✓ ")]
    assert [re.split(r"[ :]", line.removeprefix("✓ "))[0] for line in checked] == [
        "/healthz",
        "/api/v1/sessions",
        "overview",
        "session",
        "session",
    ]
    assert errors == ""


def test_all_is_sealed_in_a_fresh_store(given: tuple[Path, str, str], catalog: Catalog) -> None:
    data = given[0] / ".demo" / "data"
    assert list_journals(data) == []
    assert not (data / "segments" / "old").exists()
    statuses = catalog.query("SELECT status, closed_by, count(*) AS n FROM sessions GROUP BY ALL").rows()
    assert statuses == [("closed", "client", 12)]


def test_the_table_shows_every_session(given: tuple[Path, str, str], catalog: Catalog) -> None:
    for session_id, tokens in catalog.query("SELECT session_id, total_tokens FROM sessions").rows():
        row = next(line for line in given[1].splitlines() if line and session_id.startswith(line.split()[0]))
        assert f" {tokens:,} " in row


def test_the_sdk_spoke_was_interrupted_and_called_tools(catalog: Catalog) -> None:
    agents = catalog.query("SELECT DISTINCT user_agent FROM sessions")["user_agent"].to_list()
    assert len(agents) == 1
    assert agents[0].startswith("AsyncOpenAI/Python")
    cuts = catalog.query("SELECT truncate_status, heard_ms, generated_ms FROM interruptions").to_dicts()
    assert [cut["truncate_status"] for cut in cuts] == ["ok", "ok"]
    assert all(0 < cut["heard_ms"] < cut["generated_ms"] for cut in cuts)
    calls = catalog.query("SELECT name, unanswered FROM tool_calls ORDER BY name").rows()
    assert calls == [("find_lost_item", False)] * 2 + [("get_weather", False)] * 2
    triggers = dict(catalog.query("SELECT trigger, count(*) FROM responses GROUP BY 1").rows())
    assert triggers == {"vad": 12, "client": 10}
    assert catalog.query("SELECT sum(error_count) FROM sessions").item() == 0


def test_sigterm_in_the_middle_ends_everything_in_order(tmp_path: Path) -> None:
    process = start(tmp_path)
    port = port_of_proxy(process)
    socket.create_connection(("127.0.0.1", port)).close()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert list_journals(tmp_path / ".demo" / "data") == []


def test_a_store_that_another_demo_uses_is_not_emptied(tmp_path: Path) -> None:
    first = start(tmp_path)
    port_of_proxy(first)
    second = start(tmp_path, "--once")
    _, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 2
    assert errors.startswith("error: another demo runs in .demo\nhint: ")
    first.terminate()
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "openai" else find(name, *rest)
    )
    result = CliRunner().invoke(app, ["demo", "--once"])
    assert isinstance(result.exception, UsageError)
    assert "`demo`" in result.exception.hint


@pytest.mark.parametrize(
    "lie",
    [
        ("/api/v1/sessions", '"total":12', '"total":11', "total is 11, the store says 12"),
        ("/", '<p class="value">12</p>', '<p class="value">21</p>', "Sessions is '21', the store says '12'"),
        ("/sessions", 'data-key="', 'data-other="', "does not show duration"),
        ("/sessions/", "<dt>Turns</dt>", "<dt>Terms</dt>", "Turns is None, the store says"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(
    lie: tuple[str, str, str, str], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, right, wrong, message = lie
    client = TestClient(create_app(catalog.data_dir), base_url="http://127.0.0.1")

    def get(_site: Any, asked: str) -> bytes:
        text = client.get(asked).text
        if asked.partition("?")[0] == path or (path.endswith("s/") and asked.startswith(path)):
            assert right in text
            text = text.replace(right, wrong)
        return text.encode()

    monkeypatch.setattr(demo_checks._Site, "_get", get)
    with pytest.raises(DemoError, match=message):
        demo_checks.check("http://127.0.0.1:1", catalog)
