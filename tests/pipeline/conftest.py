"""Journals as the recorder process writes them, without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from websockets.frames import Frame, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.store import layout
from recorder.store.journal import JournalWriter, encode_frame
from recorder.store.journal_files import JournalFile, journal_name
from tests.pipeline.buckets import azurite, network, opened, provider, seaweed, url  # noqa: F401 - fixtures

OPENED_AT_NS = 1_769_860_800_000_000_000
"""2026-01-31, noon."""

MILLISECOND = 1_000_000


class Journal:
    """Writes one session's journal, a record at a time.

    Attributes:
        unfinished: those that nobody has closed.
    """

    unfinished: ClassVar[list[Journal]] = []

    def __init__(self, data_dir: Path, number: int = 1, opened_at_ns: int = OPENED_AT_NS) -> None:
        layout.create(data_dir)
        self.data_dir = data_dir
        self.session_id = f"019c1410-7c00-7000-8000-{number:012x}"
        self.at_ns = 1_000 * MILLISECOND
        self._writer = JournalWriter(data_dir, self.session_id)
        self.unfinished.append(self)
        self._position = 0
        facts = {
            "session_id": self.session_id, "source": "proxy", "opened_at": "2026-01-31T12:00:00Z",
            "opened_at_ns": opened_at_ns, "monotonic_ns": self.at_ns, "client": {"address": "127.0.0.1:5"},
            "request": {"method": "GET", "target": "/v1/realtime?model=gpt-realtime", "headers": []},
            "upstream": "ws://127.0.0.1:1", "labels": {"team": "a"}, "ring": "r", "session_no": number,
            "recorder_version": "0",
        }  # fmt: skip
        self.record(RecordKind.OPENED, msgspec.json.encode(facts))

    @property
    def file(self) -> JournalFile:
        """The part that is being written."""
        path, part = self._writer.path, self._writer.part
        closed = path.with_name(journal_name(self.session_id, part, closed=True))
        return JournalFile(self.session_id, closed if closed.exists() else path, closed.exists(), part)

    def record(self, kind: RecordKind, data: bytes) -> None:
        self._writer.write(encode_frame(self._position, self.at_ns, kind, data))
        self._writer.last_position = self._position
        self._position += len(data) + 32
        self.at_ns += MILLISECOND

    def roll(self) -> Journal:
        """Go on in the next part."""
        done, self._writer = self._writer, self._writer.roll()
        done.close(finished=True)
        return self

    def accepted(self) -> Journal:
        facts = {"status": 101, "headers": [], "connect_seconds": 0.01, "handshake_seconds": 0.02, "monotonic_ns": 1}
        self.record(RecordKind.ACCEPTED, msgspec.json.encode(facts))
        return self

    def client(self, message: dict[str, Any] | bytes, opcode: Opcode = Opcode.TEXT) -> Journal:
        self.record(RecordKind.CLIENT_BYTES, Frame(opcode, _text(message)).serialize(mask=True))
        return self

    def server(self, message: dict[str, Any] | bytes, opcode: Opcode = Opcode.TEXT) -> Journal:
        self.record(RecordKind.SERVER_BYTES, Frame(opcode, _text(message)).serialize(mask=False))
        return self

    def closed(self, by: str = "client") -> Journal:
        facts = {
            "closed_by": by, "close_code": None, "close_reason": None, "status": None, "error": None,
            "client_bytes": 1, "server_bytes": 2,
        }  # fmt: skip
        self.record(RecordKind.CLOSED, msgspec.json.encode(facts))
        return self.finish()

    def finish(self) -> Journal:
        """Hand it to the sealer, whether its end is in or not."""
        self._writer.close(finished=True)
        self.unfinished.remove(self)
        return self

    def leave(self) -> None:
        """Let go of the file as it is, as a recorder process does that ends."""
        self._writer.close(finished=False)
        self.unfinished.remove(self)

    def turn(self) -> Journal:
        """A whole small session, with audio, binary and odd messages; not closed yet."""
        self.accepted()
        self.server({"type": "session.created", "event_id": "event_1", "session": {"id": f"sess_{self._position}"}})
        self.client(b'{ "type":"input_audio_buffer.append", "audio":"AAECAwQF" }')
        self.client(b'{"type":"input_audio_buffer.append","audio":"AAECAw\\/F"}')
        self.client({"type": "response.create"})
        self.server({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})
        delta = {"type": "response.output_audio.delta", "response_id": "resp_1", "item_id": "item_1", "delta": "AQID"}
        self.server(delta | {"output_index": 0, "content_index": 0})
        usage = {"total_tokens": 5, "input_tokens": 3, "output_tokens": 2}
        self.server({"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": usage}})
        self.server(b"\x00\xff\x01", Opcode.BINARY)
        self.server(b"no JSON at all \xc3\xa9")
        return self.server(b"\x03\xe8bye", Opcode.CLOSE)


def _text(message: dict[str, Any] | bytes) -> bytes:
    return message if isinstance(message, bytes) else msgspec.json.encode(message)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Tests leave sessions running; their files are not to be left open."""
    yield
    for journal in list(Journal.unfinished):
        journal.leave()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def new_journal(data_dir: Path) -> Callable[..., Journal]:
    """Makes journals in the test's store; each needs a number of its own."""

    def make(number: int = 1, **options: Any) -> Journal:
        return Journal(data_dir, number, **options)

    return make
