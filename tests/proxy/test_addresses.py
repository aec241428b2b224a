"""What upstreams and listeners may be called, and what sessions are."""

import pytest

from recorder.errors import UsageError
from recorder.proxy.facts import new_session_id
from recorder.proxy.supervisor import listen
from recorder.proxy.upstream import Upstream


@pytest.mark.parametrize("url", ["api.openai.com", "ftp://x", "wss://", "wss://h:99999", "wss://h/?q=1", "ws://u:p@h"])
def test_upstreams_that_make_no_sense(url: str) -> None:
    with pytest.raises(UsageError, match="--upstream"):
        Upstream.parse(url)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("wss://api.openai.com", "api.openai.com"),
        ("https://api.openai.com:8443/x/", "api.openai.com:8443"),
        ("ws://[::1]:9000", "[::1]:9000"),
        ("ws://host:443", "host:443"),
    ],
)
def test_upstreams_that_do(url: str, authority: str) -> None:
    assert Upstream.parse(url).authority == authority


@pytest.mark.parametrize("address", ["8765", "localhost", "127.0.0.1:http", "127.0.0.1:99999"])
def test_addresses_that_make_no_sense(address: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        listen(address)


def test_session_ids_sort_by_time() -> None:
    ids = [new_session_id(1_700_000_000_000_000_000 + n * 1_000_000) for n in range(100)]
    assert ids == sorted(ids)
    assert {(session_id[14], session_id[19] in "89ab") for session_id in ids} == {("7", True)}
