#!/usr/bin/env python
"""Make the sample store of the format version that this recorder writes.

    python sample_logs/make_store.py DIRECTORY        writes the data directory DIRECTORY

It holds three of the sample recordings, imported; a session of odd messages, sealed from its journal; and the journal
of the same session under another id, closed and not sealed. What every reader must find is printed: it is to be that
of `stores/expected.yaml`.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.store.journal import JournalWriter, encode_frame

HERE: Final = Path(__file__).parent
IMPORTED: Final = ("text_turn", "barge_in", "tool_call")
SEALED: Final = "019c1410-7c00-7000-8000-000000000001"
UNSEALED: Final = "019c1410-7c00-7000-8000-000000000002"
OPENED_AT_NS: Final = 1_769_860_800_000_000_000
RECORDER: Final = [sys.executable, "-c", "from recorder.cli.main import main; main()"]

Message = tuple[str, Opcode, bytes]
"""Who sent it, as what, and its bytes."""


def odd_messages() -> list[Message]:
    """Audio split within a sample, several values in one message, base64 that must stay, and what is no JSON."""
    voice = struct.pack("<4801h", *(round(8_000 * math.sin(step / 7)) for step in range(4_801)))
    pieces = [voice[:961], voice[961:4_000], voice[4_000:9_601]]
    user = {"type": "message", "role": "user"}
    content = [
        {"type": "input_audio", "audio": _base64(voice[:600])},
        {"type": "input_image", "image_url": "data:image/png;base64," + _base64(bytes(range(256)))},
        {"type": "input_audio", "audio": _base64(voice[600:1_201])},
    ]
    delta = {"response_id": "resp_1", "item_id": "item_2", "output_index": 0, "content_index": 0}
    session = {"id": "sess_odd", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24_000}}}}
    said = [
        ("server", _json({"type": "session.created", "event_id": "event_1", "session": session})),
        *(("client", _json({"type": "input_audio_buffer.append", "audio": _base64(piece)})) for piece in pieces),
        ("client", b'{"type":"input_audio_buffer.append","audio":"AAECAw\\/F"}'),
        ("client", b'{"type":"input_audio_buffer.append","audio":"AAECA"}'),
        ("client", b'{ "type" : "input_audio_buffer.append",\n "audio" : "AAECAwQF" }'),
        ("client", _json({"type": "conversation.item.create", "item": {**user, "id": "item_1", "content": content}})),
        ("server", _json({"type": "response.output_audio.delta", **delta, "delta": _base64(voice)})),
        ("server", b"no JSON at all \xc3\xa9"),
        ("server", b'{"type":"broken \xff"}'),
    ]
    return [*((side, Opcode.TEXT, data) for side, data in said), ("server", Opcode.BINARY, b"\x00\xff\x01")]


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


Record = tuple[int, RecordKind, bytes]
"""When it came to pass, of which kind, and its bytes."""


def records(session_id: str, ring: str = "r", extensions: str = "") -> list[Record]:
    """What the recorder process would have of a session of the odd messages.

    Args:
        session_id: whose.
        ring: the name of the ring that they go through.
        extensions: what both sides agreed on.
    """
    opened: dict[str, Any] = {"session_id": session_id, "source": "proxy", "ring": ring, "session_no": 1}
    opened |= {"opened_at": "2026-01-31T12:00:00Z", "opened_at_ns": OPENED_AT_NS, "monotonic_ns": 1_000}
    opened |= {
        "request": {"method": "GET", "target": "/v1/realtime", "headers": []},
        "client": {"address": "127.0.0.1:5"},
    }
    opened |= {"upstream": "ws://127.0.0.1:1", "labels": {"team": "a"}, "recorder_version": "0"}
    headers = [["sec-websocket-extensions", extensions]] if extensions else []
    accepted = {"status": 101, "headers": headers, "connect_seconds": 0.01, "handshake_seconds": 0.02}
    ended = {"closed_by": "client", "close_code": None, "close_reason": None, "status": None, "error": None}
    said = [(RecordKind.OPENED, _json(opened)), (RecordKind.ACCEPTED, _json(accepted | {"monotonic_ns": 1}))]
    compressing = {
        side: [PerMessageDeflate(False, False, 15, 15)] if extensions else [] for side in ("client", "server")
    }
    for side, opcode, data in odd_messages():
        kind = RecordKind.CLIENT_BYTES if side == "client" else RecordKind.SERVER_BYTES
        frame = Frame(opcode, data).serialize(mask=side == "client", extensions=compressing[side])
        said.append((kind, frame))
    said.append((RecordKind.CLOSED, _json({**ended, "client_bytes": 1, "server_bytes": 2})))
    return [(1_000 + number * 20_000_000, kind, content) for number, (kind, content) in enumerate(said)]


def write_journal(data: Path, session_id: str) -> None:
    """Write a closed journal of the odd messages, as the recorder process would."""
    writer = JournalWriter(data, session_id)
    place = 0
    for at_ns, kind, content in records(session_id):
        writer.write(encode_frame(place, at_ns, kind, content))
        place += len(content) + 32
    writer.close(finished=True)


def main() -> None:
    """Make the store, and say what is in it."""
    data = Path(sys.argv[1])
    samples = [HERE / "v1" / f"{name}.jsonl" for name in IMPORTED]
    subprocess.run([*RECORDER, "import", *samples, "--data", data], check=True)
    write_journal(data, SEALED)
    subprocess.run([*RECORDER, "seal", "--data", data], check=True)
    write_journal(data, UNSEALED)
    for leftover in (data / "write.lock", data / "journal" / ".lock", data / "quarantine"):
        leftover.rmdir() if leftover.is_dir() else leftover.unlink()
    expected = {
        "imported": list(IMPORTED),
        "odd_sessions": [SEALED, UNSEALED],
        "odd_messages": [_told(data) for _, _, data in odd_messages()],
    }
    yaml.safe_dump(expected, sys.stdout, sort_keys=False, width=120)


def _told(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": _base64(data)}


if __name__ == "__main__":
    main()
