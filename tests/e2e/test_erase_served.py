"""A session is erased while `recorder serve` shows it: no answer, page, sound or open file has any of it after that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from recorder.pipeline.compact import compact
from recorder.pipeline.seal import seal_all
from tests.e2e.conftest import COMMAND, RecorderProcess, eventually
from tests.pipeline.conftest import Journal
from tests.pipeline.test_erase import talk, words

SESSIONS = "/api/v1/sessions"
OF_ONE = (
    f"{SESSIONS}/{{0}}", f"{SESSIONS}/{{0}}/events", f"{SESSIONS}/{{0}}/events/4", f"{SESSIONS}/{{0}}/conversation",
    f"{SESSIONS}/{{0}}/findings", f"{SESSIONS}/{{0}}/audio", f"{SESSIONS}/{{0}}/audio?format=flac", "/sessions/{0}",
)  # fmt: skip
OF_ALL = (SESSIONS, "/api/v1/findings", "/api/v1/stats/overview", "/sessions", "/", "/metrics")


def open_files(pid: int) -> str:
    """The files that a process has open or mapped, those that are unlinked too."""
    opened = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return "\n".join([*opened, Path(f"/proc/{pid}/maps").read_text("utf-8")])


@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_erased_is_served_no_more(data: Path, run: Callable[..., RecorderProcess], *, compacted: bool) -> None:
    journals = [talk(Journal(data, number), number).closed() for number in (1, 2)]
    seal_all(data)
    if compacted:
        compact(data, grace_seconds=0)
    kept, erased = (journal.session_id for journal in journals)
    serve = run("serve", "--listen", "127.0.0.1:0", "--data", str(data))
    with httpx.Client(base_url=serve.url, timeout=60) as client:
        before = {where: client.get(where.format(erased)) for where in (*OF_ONE, *OF_ALL)}
        assert {where: answer.status_code for where, answer in before.items()} == dict.fromkeys(before, 200)
        said = words(erased, 2)
        assert {word for word in said if any(word in answer.content for answer in before.values())} >= set(said[:3])
        stays = {where: client.get(where.format(kept)).content for where in OF_ONE[:-1]}

        done = subprocess.run([*COMMAND, "erase", erased, "--yes", "--data", str(data)], check=False)
        assert done.returncode == 0

        eventually(lambda: client.get(OF_ONE[0].format(erased)).status_code == 404, "gone from the API")
        for where in OF_ONE:
            answer = client.get(where.format(erased), headers={"If-None-Match": before[where].headers.get("ETag", "")})
            assert answer.status_code == 404, where
            assert not [word for word in said if word != erased.encode() and word in answer.content], where
        for where in OF_ALL:
            assert not [word for word in said if word in client.get(where).content], where
        assert {where: client.get(where.format(kept)).content for where in stays} == stays
    assert not [line for line in open_files(serve.process.pid).splitlines() if str(data) in line and "segments" in line]
