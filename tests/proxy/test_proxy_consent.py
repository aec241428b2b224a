"""Who decides what is kept of a session, and that a session that is not recorded leaves next to nothing."""

import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.envelope import RecordKind
from recorder.protocol.policy import ContentPolicy
from recorder.proxy.consent import Mode, RecordingPolicy, sample_point
from recorder.proxy.http import Request
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_exactly, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

WORDS = ["on", "no-audio", "off"]
SESSION = "0199c2f1-0000-7000-8000-000000000000"
INSIDE = sample_point(SESSION) + 1e-9
OUTSIDE = sample_point(SESSION)


def asking(*consents: str) -> Request:
    return Request("GET", "/", [("Host", "x"), *(("X-CONSENT", consent) for consent in consents)], b"")


def decide(policy: RecordingPolicy, *consents: str) -> tuple[str, str]:
    decided = policy.decide(asking(*consents), SESSION)
    return decided.mode.value, decided.decided_by


@pytest.mark.parametrize(
    ("mode", "consents", "expected"),
    [
        ("on", [], ("on", "route")),
        ("on", ["on"], ("on", "route")),
        ("on", ["no-audio"], ("no-audio", "consent_header")),
        ("on", ["No"], ("off", "consent_header")),
        ("on", [" OFF "], ("off", "consent_header")),
        ("on", ["perhaps"], ("off", "consent_header")),
        ("on", [""], ("off", "consent_header")),
        ("on", ["on, off"], ("off", "consent_header")),
        ("on", ["on", "no-audio", "yes"], ("no-audio", "consent_header")),
        ("no-audio", ["on"], ("no-audio", "route")),
        ("no-audio", ["off"], ("off", "consent_header")),
        ("off", ["on"], ("off", "route")),
        ("off", ["off"], ("off", "route")),
    ],
)
def test_a_header_may_ask_for_less_and_not_for_more(mode: str, consents: list[str], expected: tuple[str, str]) -> None:
    assert decide(RecordingPolicy(mode=Mode(mode), consent_header="x-consent"), *consents) == expected


@pytest.mark.parametrize("mode", WORDS)
@pytest.mark.parametrize("consent", WORDS)
def test_a_route_may_let_the_header_decide_all(mode: str, consent: str) -> None:
    policy = RecordingPolicy(mode=Mode(mode), sample=0, consent_header="x-consent", consent_may_loosen=True)
    assert decide(policy, consent) == (consent, "consent_header")
    assert decide(policy) == ("off", "route" if mode == "off" else "sample")


def test_without_the_key_the_header_is_a_header_like_any_other() -> None:
    assert decide(RecordingPolicy(), "off") == ("on", "route")


def test_sampling_is_decided_by_the_sessions_id() -> None:
    assert decide(RecordingPolicy(sample=INSIDE)) == ("on", "route")
    assert decide(RecordingPolicy(sample=OUTSIDE)) == ("off", "sample")
    assert decide(RecordingPolicy(sample=OUTSIDE, consent_header="x-consent"), "on") == ("off", "sample")
    assert decide(RecordingPolicy(sample=1)) == ("on", "route")
    assert decide(RecordingPolicy(sample=0)) == ("off", "sample")


def test_samples_are_even_and_grow_into_each_other() -> None:
    points = [sample_point(str(uuid.UUID(int=number))) for number in range(4000)]
    for tenth in range(10):
        assert 300 < sum(tenth / 10 <= point < (tenth + 1) / 10 for point in points) < 500


def test_what_is_taken_out_stands_in_the_facts() -> None:
    def facts(policy: RecordingPolicy, *consents: str) -> Any:
        return policy.decide(asking(*consents), SESSION).facts()

    half = RecordingPolicy(content=ContentPolicy("client", hash_text=True), consent_header="x-consent")
    assert facts(RecordingPolicy()) == {"mode": "on", "decided_by": "route", "sample": 1.0}
    assert facts(half)["policy"] == {"drop_audio": "client", "hash_text": True}
    assert facts(half, "no-audio")["policy"] == {"drop_audio": "both", "hash_text": True}
    assert facts(half, "off") == {"mode": "off", "decided_by": "consent_header", "sample": 1.0}
    assert facts(RecordingPolicy(mode=Mode.NO_AUDIO))["policy"] == {"drop_audio": "both", "hash_text": False}
    assert facts(RecordingPolicy(content=ContentPolicy("both")))["mode"] == "no-audio"


@given(
    st.sampled_from(Mode),
    st.sampled_from([0.0, INSIDE, 1.0]),
    st.lists(st.sampled_from([*WORDS, "yes", "?"]), max_size=3),
    st.sampled_from([None, "client", "server", "both"]),
    st.booleans(),
)
def test_no_header_keeps_more_than_the_route(
    mode: Mode, sample: float, consents: list[str], drop: Any, hashes: bool
) -> None:
    content = ContentPolicy(drop, hashes)
    policy = RecordingPolicy(mode=mode, sample=sample, consent_header="x-consent", content=content)
    decided, route = policy.decide(asking(*consents), SESSION), policy.decide(asking(), SESSION)
    assert decided.mode.strictness >= route.mode.strictness >= mode.strictness
    for one in (decided, route):
        assert one.content.hash_text == hashes
        assert one.content.drop_audio in {drop, "both"}


# Through a worker


def greet(connection: socket.socket) -> None:
    head = read_head(connection)
    assert b"consent" not in head.lower()
    connection.sendall(ACCEPT + b"\x81\x02{}")
    assert read_exactly(connection, 8) == b"12345678"
    connection.sendall(b"\x81\x02[]")


def serve(worker: MakeWorker, url: str, tmp_path: Path, lines: str, **settings: Any) -> RunningWorker:
    path = tmp_path / "routes.toml"
    path.write_text(f'[[route]]\nname = "r"\nupstream = "{url}"\n{lines}', encoding="utf-8")
    return worker("ws://unused.test", config_file=str(path), **settings)


def call(proxy: RunningWorker, headers: str = "") -> None:
    with proxy.connect() as client:
        client.sendall(UPGRADE[:-2] + headers.encode() + b"\r\n")
        assert read_exactly(client, len(ACCEPT) + 4) == ACCEPT + b"\x81\x02{}"
        client.sendall(b"12345678")
        assert read_to_end(client) == b"\x81\x02[]"


@pytest.mark.parametrize("lines", ['recording = "off"', "sample = 0.0", 'consent_header = "X-Consent"'])
def test_a_session_that_is_not_recorded_leaves_counts_and_nothing_it_said(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, lines: str
) -> None:
    labels = 'labels = { team = "voice" }\nlabel_headers = ["X-User"]\n'
    proxy = serve(worker, upstream(greet).url, tmp_path, labels + lines, on_recording_failure="refuse")
    consent = "X-Consent: off\r\n" if "consent" in lines else ""
    call(proxy, f"{consent}X-User: someone\r\nUser-Agent: someones-app\r\n")
    records = proxy.records()
    assert [record.kind for record in records] == [RecordKind.OPENED, RecordKind.ACCEPTED, RecordKind.CLOSED]
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened.keys() == {
        "session_id", "source", "opened_at", "opened_at_ns", "monotonic_ns", "client", "upstream", "route", "labels",
        "recording", "ring", "session_no", "recorder_version",
    }  # fmt: skip
    assert (opened["client"], opened["labels"], opened["recording"]["mode"]) == ({}, {"team": "voice"}, "off")
    (accepted,) = proxy.facts(RecordKind.ACCEPTED)
    assert (accepted["status"], accepted["headers"]) == (101, [])
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["client_bytes"], closed["server_bytes"]) == (8, 8)
    assert closed["left_out"] == {"client_bytes": 8, "server_bytes": 8}
    assert (closed["closed_by"], closed["first_end"]) == (None, "upstream")
    assert "recording_stopped" not in closed
    assert b"someone" not in b"".join(record.data for record in records)


@pytest.mark.parametrize(
    ("lines", "policy"),
    [
        ('recording = "no-audio"', {"drop_audio": "both", "hash_text": False}),
        ('drop_audio = "server"\nhash_text = true', {"drop_audio": "server", "hash_text": True}),
        ('consent_header = "X-Consent"', {"drop_audio": "both", "hash_text": False}),
    ],
)
def test_a_content_policy_is_for_the_decode(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, lines: str, policy: dict[str, Any]
) -> None:
    proxy = serve(worker, upstream(greet).url, tmp_path, lines)
    call(proxy, "X-Consent: no-audio\r\n" if "consent" in lines else "")
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["recording"]["policy"] == policy
    assert proxy.tapped(RecordKind.CLIENT_BYTES) == b"12345678"
    assert "left_out" not in proxy.facts(RecordKind.CLOSED)[0]


def test_the_only_route_takes_the_command_lines_word(upstream: MakeUpstream, worker: MakeWorker) -> None:
    url = upstream(greet).url
    off = worker(url, record="off")
    call(off)
    assert [record.kind for record in off.records()] == [RecordKind.OPENED, RecordKind.ACCEPTED, RecordKind.CLOSED]
    partly = worker(url, drop_audio="client", hash_text=True)
    call(partly)
    (opened,) = partly.facts(RecordKind.OPENED)
    assert opened["recording"]["policy"] == {"drop_audio": "client", "hash_text": True}


def test_a_session_that_is_not_to_be_recorded_is_never_refused_for_it(
    upstream: MakeUpstream, worker: MakeWorker
) -> None:
    proxy = worker(upstream(greet).url, record="off", on_recording_failure="refuse")
    proxy.reader.hold_back(True)
    call(proxy)


def test_who_ended_a_recording_that_was_stopped_is_not_guessed(upstream: MakeUpstream, worker: MakeWorker) -> None:
    proxy = worker(upstream(greet).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_exactly(client, len(ACCEPT) + 4) == ACCEPT + b"\x81\x02{}"
        assert proxy.call(lambda worker: [one.stop_recording() for one in worker._sessions]) == [True]
        client.sendall(b"12345678")
        assert read_to_end(client) == b"\x81\x02[]"
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert closed["left_out"] == {"client_bytes": 8, "server_bytes": 4}
    assert (closed["closed_by"], closed["recording_stopped"]) == (None, "stopped by request")
