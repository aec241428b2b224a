"""The sound of a session over HTTP: whole, in ranges, and not to everybody."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from starlette.testclient import TestClient

from api.app import create_app
from recorder.errors import AudioRemovedError
from recorder.pipeline.catalog import Catalog


@pytest.fixture(scope="module")
def client(sample_store: Any) -> Iterator[TestClient]:
    with TestClient(create_app(sample_store.data_dir), base_url="http://127.0.0.1") as client:
        yield client


def path(session: str) -> str:
    return f"/api/v1/sessions/{session}/audio"


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_session_can_be_heard(client: TestClient, sample_store: Any, form: str) -> None:
    answer = client.get(path(sample_store.voice), params={"format": form})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"audio/{form}"
    assert answer.headers["content-disposition"] == f'inline; filename="{sample_store.voice}.{form}"'
    frames, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert (rate, frames.shape[1]) == (24_000, 2)
    assert len(frames) > 2 * rate


def test_wav_is_the_default_and_uncut_is_longer(client: TestClient) -> None:
    heard, sent = (client.get(path("sess_voice"), params=params).content for params in ({}, {"as_sent": True}))
    sounds = [soundfile.read(io.BytesIO(content), dtype="int16")[0] for content in (heard, sent)]

    assert len(sounds[0]) < len(sounds[1])


def test_ranges_fit_together(client: TestClient, sample_store: Any) -> None:
    whole = client.get(path(sample_store.voice))
    tag = whole.headers["etag"]

    first, rest = (
        client.get(path(sample_store.voice), headers={"Range": f"bytes={range_}", "If-Range": tag})
        for range_ in ("0-999", "1000-")
    )

    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-999/{len(whole.content)}"
    assert first.content + rest.content == whole.content
    assert client.get(path(sample_store.voice), params={"as_sent": True}).headers["etag"] != tag


def test_nothing_stays_behind(
    client: TestClient, sample_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert client.get(path(sample_store.voice)).status_code == 200
    assert client.get(path(sample_store.typed)).status_code == 404
    assert list(tmp_path.iterdir()) == []


def test_failures_say_what_is_wrong(client: TestClient, sample_store: Any) -> None:
    silent = client.get(path(sample_store.typed))
    assert (silent.status_code, silent.json()["error"]["type"]) == (404, "no_audio")
    assert client.get(path("nobody")).status_code == 404
    assert client.get(path(sample_store.voice), params={"format": "mp3"}).status_code == 422


def test_sound_needs_the_token_too(sample_store: Any) -> None:
    with TestClient(create_app(sample_store.data_dir, token="secret")) as client:
        assert client.get(path(sample_store.voice)).status_code == 401
        assert client.get(path(sample_store.voice), headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_page_may_play_it(client: TestClient, sample_store: Any) -> None:
    page = client.get(f"/sessions/{sample_store.voice}", headers={"accept": "text/html"})

    assert f'<audio controls preload="none" src="{path(sample_store.voice)}?format=flac"' in page.text
    assert "media-src 'self'" in page.headers["content-security-policy"]
    assert "<audio" not in client.get(f"/sessions/{sample_store.typed}", headers={"accept": "text/html"}).text


def test_messages_come_without_audio_that_was_removed(
    client: TestClient, sample_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(_catalog: Catalog, session_id: str, position: int) -> bytes:
        raise AudioRemovedError(session_id, position)

    monkeypatch.setattr(Catalog, "message", removed)

    answer = client.get(f"/api/v1/sessions/{sample_store.voice}/events", params={"audio": True, "limit": 3})

    assert answer.status_code == 200
    assert {event["redacted"] for event in answer.json()["data"]} == {True}
