"""The quick way against the ordinary one: whatever the records, both give the same events."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Final

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from recorder.protocol.append_runs import AppendRun, joined
from recorder.protocol.batch import BatchDecoder, batches, one_by_one
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind

TEMPLATES: Final = {
    "plain": '{"type":"input_audio_buffer.append","audio":"AUDIO"}',
    "with an id": '{"event_id":"ID","type":"input_audio_buffer.append","audio":"AUDIO"}',
    "id last, spaces": '{ "audio" : "AUDIO" , "type" : "input_audio_buffer.append", "event_id" : "ID" }\n',
    "other ids": '{"type":"session.input_audio_buffer.append","audio":"AUDIO","event_id":"ID","item_id":"i"}',
    "id elsewhere": '{"type":"input_audio_buffer.append","audio":"AUDIO","note":"ID"}',
    "id twice": '{"event_id":"ID","event_id":"ID","type":"input_audio_buffer.append","audio":"AUDIO"}',
    "id within": '{"event_id":"\\u0061","x":{"event_id":"ID"},"type":"input_audio_buffer.append","audio":"AUDIO"}',
    "audio twice": '{"type":"input_audio_buffer.append","audio":"AUDIO","audio":"AUDIO"}',
    "audio elsewhere": '{"type":"input_audio_buffer.append","x":{"audio":"AUDIO"},"audio":"AUDIO"}',
    "sample rate": '{"type":"input_audio_buffer.append","sample_rate":16000,"audio":"AUDIO"}',
    "secret": '{"type":"input_audio_buffer.append","client_secret":"swordfish","audio":"AUDIO","event_id":"ID"}',
    "secret id": '{"type":"input_audio_buffer.append","event_id":"ek_0123456789ID","audio":"AUDIO"}',
    "no append": '{"type":"conversation.item.create","item":{"content":[{"audio":"AUDIO"}]},"event_id":"ID"}',
    "no object": '["input_audio_buffer.append","AUDIO"]',
    "not ASCII": '{"type":"input_audio_buffer.append","audio":"AUDIO","é":"ID"}',
}
IDS: Final = ("evt_", "ek__", "a\\n", 'a"b', "é", "", "x.-y")


def opened(**facts: object) -> list[Record]:
    about = {"session_id": "s", "opened_at_ns": 10**18, "monotonic_ns": 0, **facts}
    return [Record(RecordKind.OPENED, 0, json.dumps(about).encode()), Record(RecordKind.ACCEPTED, 1, b"{}")]


def wire(text: bytes, *, mask: bool = True, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, text, fin).serialize(mask=mask)


def append(rng: random.Random, template: str, size: int, id_head: str = "evt_") -> bytes:
    audio = pybase64.b64encode(rng.randbytes(size)).decode()
    return template.replace("ID", f"{id_head}{rng.randrange(10_000):04}").replace("AUDIO", audio).encode()


def chunks(rng: random.Random, template: str, size: int) -> list[Record]:  # noqa: PLR0911 - a table of cases
    """The next thing that happens: nearly always an append, else something that may get in its way."""
    text = append(rng, template, size)
    plain = Record(RecordKind.CLIENT_BYTES, rng.randrange(10**12), wire(text))
    match rng.randrange(24):
        case 0:  # another byte somewhere in the message
            at = rng.randrange(len(text))
            changed = text[:at] + bytes((rng.choice(b'A="\\ {}_\xff\x00'),)) + text[at + 1 :]
            return [Record(plain.kind, plain.at_ns, wire(changed))]
        case 1:  # another byte somewhere in the frame
            data = bytearray(plain.data)
            data[rng.randrange(min(12, len(data)))] ^= 1 << rng.randrange(8)
            return [Record(plain.kind, plain.at_ns, bytes(data))]
        case 2:
            cut = rng.randrange(len(plain.data))
            return [Record(plain.kind, 1, plain.data[:cut]), Record(plain.kind, 2, plain.data[cut:])]
        case 3:
            return [Record(plain.kind, 1, plain.data + wire(b"?", opcode=Opcode.PING))]
        case 4:
            first = wire(text[:9], fin=False)
            return [Record(plain.kind, 1, first), Record(plain.kind, 2, wire(text[9:], opcode=Opcode.CONT))]
        case 5:
            rate = rng.choice([16_000, 24_000, None])
            session = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": rate}}}}
            update = json.dumps({"type": "session.updated", "session": session}).encode()
            return [Record(RecordKind.SERVER_BYTES, 3, wire(update, mask=False))]
        case 6:
            delta = append(rng, '{"type":"response.output_audio.delta","delta":"AUDIO","response_id":"r"}', size)
            return [Record(RecordKind.SERVER_BYTES, 3, wire(delta, mask=False))]
        case 7:
            return [Record(plain.kind, plain.at_ns, wire(append(rng, template, size, rng.choice(IDS))))]
        case 8 if rng.random() < 0.1:
            return [Record(rng.choice([RecordKind.GAP, RecordKind.CLOSED, RecordKind.OPENED]), 5, b'{"bytes":3}')]
        case _:
            return [plain]


def in_batches(records: Sequence[Record], size: int) -> list[list[RecordedEvent | AppendRun]]:
    decoder = BatchDecoder(SessionDecoder())
    return [decoder.feed(records[at : at + size]) for at in range(0, len(records), size)]


def every(batches: Sequence[list[RecordedEvent | AppendRun]]) -> list[RecordedEvent]:
    return [event for batch in batches for event in one_by_one(batch)]


def singly(records: Sequence[Record]) -> list[RecordedEvent]:
    decoder = SessionDecoder()
    return [event for record in records for event in decoder.feed(record)]


@given(
    seed=st.integers(0, 2**32),
    template=st.sampled_from(sorted(TEMPLATES)),
    size=st.integers(1, 200),
    batch=st.integers(9, 90),
    policy=st.sampled_from([{}, {}, {}, {"opened_at_ns": None}, {"recording": {"policy": {"drop_audio": "client"}}}]),
)
def test_batches_give_what_single_records_give(
    seed: int, template: str, size: int, batch: int, policy: dict[str, object]
) -> None:
    rng = random.Random(seed)
    records = opened(**policy)
    while len(records) < 150:
        records += chunks(rng, TEMPLATES[template], size)

    batches, expected = in_batches(records, batch), singly(records)

    assert every(batches) == expected
    assert one_by_one(joined(chain.from_iterable(batches))) == expected


def test_runs_are_joined_unless_the_client_says_something_else_in_between() -> None:
    rng = random.Random(1)
    records = opened()
    for number in range(3):
        records += [Record(3, at, wire(append(rng, TEMPLATES["plain"], 300))) for at in range(100)]
        kind = (RecordKind.SERVER_BYTES, RecordKind.CLIENT_BYTES)[number % 2]
        records.append(Record(kind, 100, wire(b'{"type":"x"}', mask=kind == RecordKind.CLIENT_BYTES)))

    items = joined(chain.from_iterable(in_batches(records, 51)))

    assert [len(item) for item in items if isinstance(item, AppendRun)] == [170, 100]  # 30 showed what they look like
    assert one_by_one(items) == singly(records)


@pytest.mark.parametrize("template", ["plain", "with an id", "id last, spaces", "other ids"])
@pytest.mark.parametrize("size", [30, 31, 32, 300, 60_000])
def test_like_appends_come_in_one_run(template: str, size: int) -> None:
    rng = random.Random(size)
    records = opened()
    records += [Record(3, at, wire(append(rng, TEMPLATES[template], size))) for at in range(100)]

    (items,) = in_batches(records, 1_000)

    assert [len(item) for item in items if isinstance(item, AppendRun)] == [70]  # 32 records showed what they look like
    assert one_by_one(items) == singly(records)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_is_read_right(template: str) -> None:
    rng = random.Random(1)
    records = opened() + [Record(3, at, wire(append(rng, TEMPLATES[template], 30))) for at in range(60)]

    assert every(in_batches(records, 50)) == singly(records)


def test_one_chunk_whose_audio_is_no_base64_costs_the_others_nothing() -> None:
    rng = random.Random(1)
    texts = [append(rng, TEMPLATES["plain"], 30) for _ in range(100)]
    texts[70] = texts[70].replace(b'"audio":"', b'"audio":"*')[:-3] + b'"}'
    records = opened() + [Record(3, at, wire(text)) for at, text in enumerate(texts)]

    assert every(in_batches(records, 1_000)) == singly(records)


def test_a_run_survives_a_change_of_the_audio_format_as_two() -> None:
    rng = random.Random(1)
    records = opened() + [Record(3, at, wire(append(rng, TEMPLATES["plain"], 96))) for at in range(100)]
    update = b'{"type":"session.updated","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":16000}}}}}'
    records.insert(70, Record(RecordKind.SERVER_BYTES, 0, wire(update, mask=False)))

    (items,) = in_batches(records, 1_000)
    runs = [item for item in items if isinstance(item, AppendRun)]

    assert [(len(run), run.audio_ms) for run in runs] == [(38, 2.0), (32, 3.0)]


def test_a_run_goes_on_while_the_server_speaks() -> None:
    rng = random.Random(1)
    records = opened()
    for at in range(100):
        delta = append(rng, '{"type":"response.output_audio.delta","delta":"AUDIO","response_id":"r"}', 96)
        records.append(Record(3, at, wire(append(rng, TEMPLATES["with an id"], 96))))
        records.append(Record(RecordKind.SERVER_BYTES, at, wire(delta, mask=False)))

    (items,) = in_batches(records, 1_000)
    runs = [item for item in items if isinstance(item, AppendRun)]

    assert [len(run) for run in runs] == [85]  # of each side, 15 are among the 32 records that show what they look like
    assert {after - before for before, after in pairwise(runs[0].positions)} == {2}
    assert one_by_one(items) == singly(records)


HEAD: Final = '"type":"input_audio_buffer.append"'


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        ('"audio":"AAAA","audio":"AAAA"', '"audio":"BBBB","audio":"AAAA"'),
        ('"audio":"AAAA","x":{"audio":"AAAA"}', '"audio":"BBBB","x":{"audio":"AAAA"}'),
        ('"audio":"AAAA"', '"audio":"A\\/A"'),
        ('"audio":"AAA="', '"audio":"AAB="'),
        ('"audio":"AAA="', '"audio":"AAAA"'),
        ('"audio":"AAAA"', '"audio":"AA=="'),
        ('"audio":"AAAA","event_id":"evt12"', '"audio":"AAAA","event_id":"ev\\n1"'),
        ('"audio":"AAAA","event_id":"evt12"', '"audio":"AAAA","event_id":"evté"'),
        ('"event_id":"evt_1234567890123","audio":"AAAA"', '"event_id":"ek_12345678901234","audio":"AAAA"'),
        ('"event_id":"a1","event_id":"a1","audio":"AAAA"', '"event_id":"a2","event_id":"a1","audio":"AAAA"'),
        (
            '"\\u0065vent_id":"a","x":{"event_id":"a"},"audio":"AAAA"',
            '"\\u0065vent_id":"a","x":{"event_id":"b"},"audio":"AAAA"',
        ),
        ('"event_id":"a1","audio":"AAAA"', '"event_id":"a1","delta":"AAAA"'),
    ],
)
def test_what_only_looks_alike_is_told_apart(usual: str, odd: str) -> None:
    usual, odd = (f'{{"type":"input_audio_buffer.append",{rest}}}' for rest in (usual, odd))
    texts = [usual.encode()] * 40 + [odd.encode(), usual.encode()] * 10 + [odd.encode()]
    records = opened() + [Record(3, at, wire(text)) for at, text in enumerate(texts)]

    assert len(usual.encode()) == len(odd.encode())
    assert every(in_batches(records, 50)) == singly(records)


def test_batches_are_bounded_in_number_and_bytes() -> None:
    small = [Record(3, at, b"x") for at in range(2_500)]
    large = [Record(3, at, bytes(3 << 20)) for at in range(3)]

    assert [len(batch) for batch in batches(small)] == [1_024, 1_024, 452]
    assert [len(batch) for batch in batches(large)] == [2, 1]
    assert [record for batch in batches(small) for record in batch] == small
