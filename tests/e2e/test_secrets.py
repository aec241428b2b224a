"""No secret of a handshake, in any form, is found in anything that the recorder keeps, says or shows."""

import base64
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.locks import ring_of
from recorder.proxy.tokens import add_token
from tests.e2e.conftest import RecorderProcess, eventually, free_port
from tests.proxy.conftest import ACCEPT, read_exactly, read_head, read_to_end

Run = Callable[..., RecorderProcess]

CLIENT = "sk-proj-Client0123456789abcdefghij"
AZURE = "0123456789abcdef0123456789abcdef"  # has no prefix that tells it from any other text
OURS = "sk-proj-Ours0123456789abcdefghij"
EPHEMERAL = "ek_Ephemeral0123456789abcdefghij"
PASSWORD = "Passwort0123456789"
BASIC = (base64.b64encode(CLIENT.encode()).decode(), base64.b64encode(f"me:{PASSWORD}".encode()).decode())
SECRETS = (CLIENT, AZURE, OURS, EPHEMERAL, PASSWORD, *BASIC)

MESSAGE = b'{"type":"session.created","session":{"id":"sess_1","model":"gpt-realtime"}}'
HELLO = bytes([0x81, len(MESSAGE)]) + MESSAGE
MADE = b'{"value":"%b","session":{"client_secret":{"value":"%b"}}}' % ((EPHEMERAL.encode(),) * 2)
REFUSAL = b'{"error":{"message":"Incorrect API key provided: %b"}}' % CLIENT.encode()

FORMS = {
    "bearer": ("", f"Authorization: Bearer {CLIENT}"),
    "basic": ("", f"Authorization: Basic {BASIC[0]}"),
    "api-key": ("", f"api-key: {AZURE}"),
    "x-api-key": ("", f"X-Api-Key: {AZURE}"),
    "gateway": ("", f"Ocp-Apim-Subscription-Key: {AZURE}"),
    "cookie": ("", f"Cookie: session={AZURE}"),
    "subprotocol": ("", f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{EPHEMERAL}"),
    "subprotocol alone": ("", f"Sec-WebSocket-Protocol: openai-insecure-api-key.{AZURE}"),
    "query": (f"&api-key={AZURE}", "X: y"),
    "query, bearer": (f"&authorization=Bearer%20{AZURE}", "X: y"),
    "query, token": (f"&access_token={EPHEMERAL}", "X: y"),
    "elsewhere": ("", f"X-Trace: call of {CLIENT}"),
    "label": ("", f"X-Recorder-Label-Tenant: {CLIENT}"),
    "malformed": ("", f"api-key : {AZURE}"),
}


class Upstream:
    """Accepts, refuses, hands out ephemeral keys, or breaks off: as the path says. Keeps the heads."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, AssertionError):
            head = read_head(connection)
            self.heads.append(head)
            if b"client_secrets" in head:
                read_exactly(connection, 2)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(MADE) + MADE)
            elif b"refuse" in head:
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(REFUSAL) + REFUSAL)
            elif b"garbage" in head:
                connection.sendall(b"HTTP/1.1 101 Switching\r\napi-key : %b\r\n\r\n" % AZURE.encode())
            else:
                connection.sendall(ACCEPT + HELLO)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with closing(Upstream()) as server:
        yield server


def exchange(proxy: RecorderProcess, request: str) -> bytes:
    with socket.create_connection(proxy.address, 20) as client:
        client.sendall(request.encode())
        return read_to_end(client)


def upgrade(path: str, header: str, query: str = "") -> str:
    return (
        f"GET {path}?model=m{query} HTTP/1.1\r\nHost: proxy.test\r\n{header}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def converse(proxy: RecorderProcess, secrets: tuple[str, ...]) -> None:
    """Every form of credential on every kind of outcome."""
    for path in ("/v1/realtime", "/refuse", "/garbage", "/nowhere/x", "/dead/x", "/tunnel/x"):
        for query, header in FORMS.values():
            for secret in secrets:
                answer = exchange(proxy, upgrade(path, header, query).replace(AZURE, secret))
                assert answer.startswith(b"HTTP/1.1 ")
    post = f"POST /v1/realtime/client_secrets?key={AZURE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {CLIENT}\r\n"
    for secret in secrets:
        exchange(proxy, f"{post}Content-Length: 2\r\n\r\n{{}}".replace(CLIENT, secret))


def config_file(folder: Path, upstream: Upstream, credential: str) -> str:
    dead = free_port()
    path = folder / "routes.toml"
    (folder / "azure.key").write_text(OURS, encoding="utf-8")
    path.write_text(
        f"""
[[route]]
name = "up"
upstream = "{upstream.url}"
credential = {credential}
label_headers = ["X-Recorder-Label-Tenant"]
[[route]]
name = "dead"
path_prefix = "/dead"
upstream = "ws://127.0.0.1:{dead}"
credential = {credential}
[[route]]
name = "tunnel"
path_prefix = "/tunnel"
upstream = "ws://127.0.0.1:{dead}"
credential = {credential}
proxy = "{upstream.url.replace("ws://", f"http://me:{PASSWORD}@")}/"
[[route]]
name = "nowhere"
path_prefix = "/nowhere"
upstream = "ws://does-not-exist.invalid"
credential = {credential}
""",
        encoding="utf-8",
    )
    return str(path)


def files(*folders: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def assert_none(secrets: tuple[str, ...], where: str, content: bytes) -> None:
    for secret in secrets:
        assert secret.encode() not in content, f"{secret} is in {where}"


@pytest.mark.parametrize("credential", ['"pass"', '{ header = "api-key", value_from_file = "azure.key" }'])
def test_no_secret_is_kept_said_or_shown(
    run: Run, data: Path, tmp_path: Path, upstream: Upstream, credential: str
) -> None:
    config = config_file(tmp_path, upstream, credential)
    arguments = ["proxy", "--listen", "127.0.0.1:0", "--config", config, "--data", str(data), "--ring-mb", "4"]
    secrets: tuple[str, ...] = SECRETS
    injects = credential != '"pass"'
    if injects:
        secrets += (add_token(tmp_path / "tokens", "web"),)
        arguments += ["--client-tokens", str(tmp_path / "tokens")]
    admin = free_port()
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        arguments += ["--admin", f"127.0.0.1:{admin}", "--log-level", "debug"]
        proxy = run(*arguments, stderr=stderr)
        converse(proxy, (AZURE, secrets[-1]) if injects else (AZURE,))
        for page in ("metrics", "sessions"):
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/{page}", timeout=20) as answer:
                assert_none(secrets, page, answer.read())
        for name, content in files(data, ring_of(data)).items():
            assert_none(secrets, name, content)
        assert proxy.stop() == 0
    forwarded = b"".join(upstream.heads)
    if injects:
        assert OURS.encode() in forwarded
        assert_none((AZURE, EPHEMERAL, secrets[-1]), "what was forwarded", forwarded)
    else:
        assert CLIENT.encode() in forwarded
        assert AZURE.encode() in forwarded
    eventually(lambda: not list((data / "journal").glob("*.journal")), "all is sealed")
    said = log.read_bytes()
    assert b"refused" in said
    assert_none(secrets, "the log", said)
    for name, content in files(data).items():
        assert_none(secrets, name, content)
    with Catalog(data) as catalog:
        assert catalog.query("SELECT count(*) FROM sessions WHERE status = 'closed' OR status = 'lost'").item() > 0
        assert catalog.query("SELECT count(*) FROM sessions WHERE status = 'refused'").item() > 0
        for table in ("events", "sessions"):
            shown = catalog.query(f"SELECT * FROM {table}").write_ndjson()
            assert_none(secrets, table, shown.encode())
    shown = CliRunner().invoke(app, ["show", "last", "--data", str(data), "--json"]).output
    assert_none(secrets, "recorder show", shown.encode())
