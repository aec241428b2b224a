"""kill -9 of any process at any instant, under traffic both ways: what either side got is on record, once."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from recorder.pipeline.catalog import Catalog
from recorder.pipeline.recover import recover
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import read_journal
from recorder.store.journal_files import list_journals
from tests.e2e.conftest import RecorderProcess, eventually
from tests.proxy.conftest import ACCEPT, UPGRADE, read_head

SESSIONS = 3


def stream(number: int, party: str, start: int, length: int) -> bytes:
    """Bytes that say where they stand, so that any loss, doubling or mix-up shows."""
    unit = 32
    first, last = start // unit, -(-(start + length) // unit)
    text = b"".join(f"{party}:{number:02}:{place:020}:".encode().ljust(unit, b".") for place in range(first, last))
    return text[start - first * unit :][:length]


class Peer(threading.Thread):
    """One end of a session: sends its stream in pieces until the connection breaks, keeps what it gets."""

    def __init__(self, sock: socket.socket, number: int, party: str, seed: int, *, until: threading.Event) -> None:
        super().__init__(daemon=True)
        self.sock, self.number, self.party, self.until = sock, number, party, until
        self.random = random.Random(f"{seed}{party}{number}")
        self.sent = 0
        self.received = bytearray()
        self.reader = threading.Thread(target=self.read, daemon=True)

    def run(self) -> None:
        self.reader.start()
        with suppress(OSError):
            while not self.until.is_set():
                size = self.random.randint(1, 5000)
                self.sock.sendall(stream(self.number, self.party, self.sent, size))
                self.sent += size
                time.sleep(self.random.random() * 0.004)
            self.sock.shutdown(socket.SHUT_WR)
        self.reader.join()
        self.sock.close()

    def read(self) -> None:
        with suppress(OSError):
            while data := self.sock.recv(65536):
                self.received += data


class Scene:
    """Sessions through a proxy, all talking both ways at once."""

    def __init__(self, run: Callable[..., RecorderProcess], data: Path, seed: int, *options: str) -> None:
        self.until = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        upstream = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"
        self.options = ["proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data)]
        self.options += ["--drain-seconds", "0", "--ring-mb", "8", *options]
        self.data = data
        self.proxy = run(*self.options)
        self.pairs: list[tuple[Peer, Peer]] = []
        for number in range(SESSIONS):
            client = socket.create_connection(self.proxy.address, 20)
            client.sendall(UPGRADE)
            server, _ = self.listener.accept()
            read_head(server)
            server.sendall(ACCEPT)
            assert read_head(client) == ACCEPT
            client.settimeout(20)
            server.settimeout(20)
            self.pairs.append(
                (
                    Peer(client, number, "client", seed, until=self.until),
                    Peer(server, number, "server", seed, until=self.until),
                )
            )
        for pair in self.pairs:
            for peer in pair:
                peer.start()

    def end(self) -> None:
        self.until.set()
        for pair in self.pairs:
            for peer in pair:
                peer.join(30)
                assert not peer.is_alive()
        self.listener.close()

    def in_journals(self) -> Iterator[tuple[bytes, bytes]]:
        """What client and server said, of each session; the spools that `--no-seal` leaves are sorted first."""
        recover(self.data)
        for journal in list_journals(self.data):
            records = list(read_journal(journal.path))
            assert records[-1].kind == RecordKind.CLOSED
            up = b"".join(record.data for record in records if record.kind == RecordKind.CLIENT_BYTES)
            yield up, b"".join(record.data for record in records if record.kind == RecordKind.SERVER_BYTES)

    def in_store(self) -> Iterator[tuple[bytes, bytes]]:
        """Likewise, sealed: bytes that are no frames are kept as they came."""
        assert list_journals(self.data) == []
        with Catalog(self.data) as catalog:
            for session_id in catalog.query("SELECT session_id FROM sessions WHERE status <> 'running'")["session_id"]:
                said = catalog.recorded_events(session_id)
                assert [event.position for event in said] == list(range(len(said)))
                assert said[-1].type == "recorder.session_closed"
                up = b"".join(event.message() for event in said if event.direction == "client")
                yield up, b"".join(event.message() for event in said if event.direction == "server")

    def lacks_nothing(self) -> None:
        """The proxy was not hit: all that was sent arrived."""
        for client, server in self.pairs:
            assert len(server.received) == client.sent
            assert len(client.received) == server.sent

    def check(self, recorded: Iterable[tuple[bytes, bytes]]) -> None:
        """Everything received is on record; nothing is there that was not sent; no byte is there twice."""
        on_record = {int(up[7:9]): (up, down) for up, down in recorded}
        assert len(on_record) == SESSIONS
        for number, (client, server) in enumerate(self.pairs):
            up, down = on_record[number]
            assert up == stream(number, "client", 0, len(up))
            assert down == stream(number, "server", 0, len(down))
            assert len(server.received) <= len(up) <= client.sent + 5000
            assert len(client.received) <= len(down) <= server.sent + 5000
            assert server.received == up[: len(server.received)]
            assert client.received == down[: len(client.received)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("victim", ["worker", "record", "all"])
def test_what_was_forwarded_is_on_record_once(
    run: Callable[..., RecorderProcess], data: Path, victim: str, seed: int
) -> None:
    scene = Scene(run, data, seed, "--no-seal")
    time.sleep(random.Random(f"{victim}{seed}").random() * 0.8)  # "at any instant" is what is tested
    scene.proxy.kill(victim)
    if victim == "record":
        eventually(lambda: "record" in scene.proxy.children(), "the recorder process runs again")
        time.sleep(0.2)
    scene.end()
    if victim == "all":
        proxy = run(*scene.options)
        proxy.stop()
    else:
        assert scene.proxy.stop() == 0
    scene.check(scene.in_journals())
    if victim == "record":
        scene.lacks_nothing()


@pytest.mark.parametrize("victim", ["record", "sorter", "sealer", "all"])
def test_what_was_forwarded_is_sealed_once_in_parts(
    run: Callable[..., RecorderProcess], data: Path, victim: str
) -> None:
    """Recorder process, sorter and sealer are at it several times a second, and one of them is killed in the middle."""
    scene = Scene(run, data, 7, "--seal-seconds", "0.3")
    eventually(lambda: len(list(data.glob("manifests/*/*.0000*.json"))) > SESSIONS, "parts are sealed")
    time.sleep(random.Random(victim).random() * 0.5)
    scene.proxy.kill(victim)
    if victim != "all":
        eventually(lambda: victim in scene.proxy.children(), "it runs again")
        time.sleep(0.5)
    scene.end()
    if victim == "all":
        proxy = run(*scene.options)
        eventually(lambda: not list_journals(data), "all is sealed")
        proxy.stop()
    else:
        assert scene.proxy.stop() == 0
    scene.check(scene.in_store())
    if victim != "all":
        scene.lacks_nothing()


def test_a_worker_that_dies_is_replaced_and_the_port_never_refuses(
    run: Callable[..., RecorderProcess], data: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        proxy = run("proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data), "--no-seal")
        eventually(lambda: "worker" in proxy.children(), "a worker runs")
        first = proxy.children()["worker"]
        proxy.kill("worker")
        with socket.create_connection(proxy.address, 20) as client:  # waits in the backlog meanwhile
            client.sendall(UPGRADE)
            server, _ = listener.accept()
            with server:
                read_head(server)
                server.sendall(ACCEPT)
                assert read_head(client) == ACCEPT
                assert proxy.children()["worker"] != first
