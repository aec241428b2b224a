"""Clients without a valid token are told to go slower; those with one never notice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.proxy.http import RETRY_SECONDS
from recorder.proxy.tokenfailures import MAX_FAILURES, TokenFailures
from recorder.proxy.tokens import add_token
from tests.proxy.conftest import ACCEPT, RunningWorker, Scripted, read_head, read_to_end

MakeUpstream = Callable[..., Scripted]
MakeWorker = Callable[..., RunningWorker]


def statuses(failures: TokenFailures, host: str, count: int, now: float = 0.0) -> list[int]:
    return [failures.refusal(host, now).status for _ in range(count)]


def test_so_many_are_401_then_429_until_the_window_is_over(caplog: pytest.LogCaptureFixture) -> None:
    failures = TokenFailures()
    assert statuses(failures, "192.0.2.1", MAX_FAILURES + 5) == [401] * MAX_FAILURES + [429] * 5
    assert statuses(failures, "192.0.2.2", 1) == [401]
    assert statuses(failures, "192.0.2.1", 1, RETRY_SECONDS - 0.1) == [429]
    assert statuses(failures, "192.0.2.1", MAX_FAILURES + 1, RETRY_SECONDS) == [401] * MAX_FAILURES + [429]
    assert [record.getMessage() for record in caplog.records] == [
        "10 clients without a valid token from 192.0.2.1: more get 429, and no line each"
    ] * 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_network_is_one_address(one: str, other: str, same: bool) -> None:
    failures = TokenFailures()
    statuses(failures, one, MAX_FAILURES)
    assert statuses(failures, other, 1) == [429 if same else 401]


def test_the_oldest_are_forgotten_where_there_are_too_many() -> None:
    failures = TokenFailures()
    statuses(failures, "192.0.2.1", MAX_FAILURES)
    for number in range(5000):
        failures.refusal(f"10.0.{number >> 8}.{number & 255}", 1.0)
    assert len(failures._windows) == 4096
    assert statuses(failures, "192.0.2.1", 1, 2.0) == [401]


def test_through_a_worker(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def ask(token: str) -> tuple[bytes, bytes]:
        with proxy.connect() as client:
            client.sendall(
                b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
            )
            head, _, body = read_to_end(client).partition(b"\r\n\r\n")
            return head, body

    server = upstream(lambda connection: (read_head(connection), connection.sendall(ACCEPT)))
    routes, tokens = tmp_path / "routes.toml", tmp_path / "tokens"
    routes.write_text(f'[[route]]\nname = "r"\nupstream = "{server.url}"\ncredential = "none"\n', encoding="utf-8")
    valid = add_token(tokens, "app")
    proxy = worker("ws://unused.test", config_file=str(routes), client_tokens=str(tokens))
    for _ in range(MAX_FAILURES):
        assert ask("rk_wrong")[0].startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    head, body = ask("rk_wrong")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Type: application/json\r\n")
    assert json.loads(body)["error"] == {
        "type": "recorder_proxy_error",
        "code": "too_many_failures",
        "message": "too many attempts without a valid client token",
    }
    assert ask(valid)[0].startswith(b"HTTP/1.1 101 ")
    assert proxy.call(lambda worker: worker._settings.reload())
    assert ask("rk_wrong")[0].startswith(b"HTTP/1.1 429 ")
