from __future__ import annotations

import random
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorder.errors import AudioRemovedError, NewerFormatError, StoreError
from recorder.protocol.envelope import Part, RecordedEvent
from recorder.store import audio_blocks, layout, parquet, schema, segments, session_tables

SESSION = "0197f1a2-0000-7000-8000-000000000001"
OTHER = "0197f1a2-0000-7000-8000-000000000002"
DATE = "2026-01-31"
NS = 1_769_860_800_123_456_789


def event(position: int, kind: str | None = "response.created", **fields: object) -> RecordedEvent:
    made = RecordedEvent(SESSION, position, "server", NS + position, position, kind)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def append(position: int, data: bytes = b"\x01\x02") -> RecordedEvent:
    payload = '{"type":"input_audio_buffer.append","audio":""}'
    part = Part(0, payload.index('""') + 1, "audio", "base64", data)
    return event(position, "input_audio_buffer.append", direction="client", payload=payload, opcode=1, parts=(part,))


def write(data_dir: Path, *events: RecordedEvent) -> tuple[segments.SegmentFile, ...]:
    layout.create(data_dir)
    return segments.write(data_dir, DATE, SESSION, session_tables.collect(SESSION, events).data_sets())


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    files = write(
        tmp_path, event(0, payload="{}", output_index=3, audio_ms=1.5, redacted=True), append(1), event(2, None)
    )

    rows = segments.read(tmp_path, files, "events")

    assert rows is not None
    assert rows.schema.equals(schema.EVENTS)
    assert rows["position"].to_pylist() == [0, 2]
    assert rows["type"].to_pylist() == ["response.created", None]
    assert next(segments.rows(rows))["recorded_at"] == NS
    assert rows["redacted"].to_pylist() == [True, False]


def test_appends_and_parts_have_data_sets_of_their_own(tmp_path: Path) -> None:
    files = write(tmp_path, event(0), append(1, b"\x07"), append(2, b"\x08\x09"))

    assert [(file.data_set, file.rows) for file in files] == [("appends", 2), ("audio", 1), ("events", 1), ("parts", 2)]
    parts = segments.read_parts(tmp_path, files)
    assert parts["size_bytes"].to_pylist() == [1, 2]
    assert [block["bytes"] for block in segments.read_audio(tmp_path, files)] == [b"\x07\x08\x09"]


def test_a_data_set_without_rows_has_no_file(tmp_path: Path) -> None:
    files = write(tmp_path, event(0))

    assert [file.data_set for file in files] == ["events"]
    assert segments.read(tmp_path, files, "parts") is None


def test_writing_again_gives_the_same_bytes_under_the_same_names(tmp_path: Path) -> None:
    first = write(tmp_path, event(0), append(1))

    assert write(tmp_path, event(0), append(1)) == first
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == [f"{SESSION}.parquet"] * 4
    assert not list(tmp_path.rglob("*.tmp"))


def test_files_and_rooms_are_for_their_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / "data", event(0))

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert modes == {0o600}
    rooms = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").rglob("*") if path.is_dir()}
    assert rooms == {0o700}


def test_encodings_are_those_that_were_measured(tmp_path: Path) -> None:
    files = write(tmp_path, *(event(n, payload=f"{{{n}}}", event_id=f"event_{n}") for n in range(100)))

    group = pq.read_metadata(tmp_path / files[0].path).row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["position"].encodings
    assert "DELTA_BINARY_PACKED" in columns["monotonic_ns"].encodings
    assert columns["clock_ns"].statistics.min == columns["clock_ns"].statistics.max == NS
    assert "RLE_DICTIONARY" in columns["type"].encodings
    assert "RLE_DICTIONARY" not in columns["payload"].encodings
    assert [column.column_index for column in group.sorting_columns] == [0, 1]


def test_what_compressing_makes_no_smaller_is_not_compressed(tmp_path: Path) -> None:
    few = schema.events_table([event(n) for n in range(3)])
    blocks = pa.table({name: ["flac"] * 20 for name in schema.AUDIO.names})
    mixed = blocks.set_column(blocks.schema.get_field_index("codec"), "codec", pa.array(["flac"] * 19 + ["raw"]))
    found = {}
    for name, table in {"few": few, "flac": blocks, "mixed": mixed}.items():
        with (
            (tmp_path / name).open("wb") as file,
            parquet.writer(file, table.schema, plain=parquet.plain_columns(table)) as writer,
        ):
            writer.write_table(table)
        group = pq.read_metadata(tmp_path / name).row_group(0)
        columns = {group.column(n).path_in_schema: group.column(n).compression for n in range(group.num_columns)}
        found[name] = {column for column, compression in columns.items() if compression == "UNCOMPRESSED"}

    assert found == {"few": set(schema.EVENTS.names), "flac": {"bytes"}, "mixed": set()}


def test_after_gives_later_positions_only(tmp_path: Path) -> None:
    files = write(tmp_path, *(event(n) for n in range(10)))

    rows = segments.read(tmp_path, files, "events", after=7)

    assert rows is not None
    assert rows["position"].to_pylist() == [8, 9]


def test_several_files_of_a_data_set_are_read_as_one(tmp_path: Path) -> None:
    layout.create(tmp_path)
    files: list[segments.SegmentFile] = []
    for part, rows in enumerate([[event(0), append(1)], [append(2)], [event(3), append(4)]]):
        tables = session_tables.collect(SESSION, rows).data_sets()
        files += segments.write(tmp_path, DATE, layout.part_name(SESSION, part), tables)

    assert segments.read_events(tmp_path, files)["position"].to_pylist() == [0, 1, 2, 3, 4]
    assert segments.read_events(tmp_path, files, after=0, until=3)["position"].to_pylist() == [1, 2, 3]
    assert segments.read_parts(tmp_path, files)["position"].to_pylist() == [1, 2, 4]


def test_a_session_is_told_from_others_in_the_same_file(tmp_path: Path) -> None:
    layout.create(tmp_path)
    mine, other = [event(0), append(1)], [event(0), append(1), event(2)]
    for each in other:
        each.session_id = OTHER
    tables = [session_tables.collect(SESSION, mine).data_sets(), session_tables.collect(OTHER, other).data_sets()]
    merged = {name: segments.concat(each[name] for each in tables) for name in tables[0]}
    files = segments.write(tmp_path, DATE, "compact-0123abcd", merged)

    rows = segments.read_events(tmp_path, files, session_id=OTHER, after=0)
    parts = segments.read_parts(tmp_path, files, session_id=SESSION)

    assert rows["session_id"].to_pylist() == [OTHER] * 2
    assert rows["position"].to_pylist() == [1, 2]
    assert parts["session_id"].to_pylist() == [SESSION]


def test_big_values_make_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BYTES_A_GROUP", 4_000)
    image = [Part(0, 0, "image", "base64", bytes([n]) * 1_000) for n in range(10)]

    files = write(tmp_path, *(event(n, payload="", parts=(image[n],)) for n in range(10)))

    parts = next(file for file in files if file.data_set == "parts")
    assert pq.read_metadata(tmp_path / parts.path).num_row_groups >= 3
    assert segments.read_parts(tmp_path, files)["position"].to_pylist() == list(range(10))


def test_a_few_messages_need_a_few_blocks_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_AUDIO_BYTES_A_GROUP", 4_000)
    monkeypatch.setattr(audio_blocks, "BLOCK_BYTES", 2_000)
    noise = [random.Random(n).randbytes(1_000) for n in range(40)]
    files = write(tmp_path, *(append(n, noise[n]) for n in range(40)))
    path = tmp_path / next(file.path for file in files if file.data_set == "audio")

    blocks = list(segments.read_audio(tmp_path, files, after=6, until=9))

    assert pq.read_metadata(path).num_row_groups >= 10
    assert [(block["position"], block["last_position"]) for block in blocks] == [(6, 7), (8, 9)]
    assert list(segments.read_audio(tmp_path, files, session_id=OTHER)) == []
    events, parts = (read(tmp_path, files, after=6, until=9) for read in (segments.read_events, segments.read_parts))
    assert [each.parts[0].data for each in segments.recorded_events(events, parts, blocks)] == noise[7:10]


def test_an_event_whose_audio_was_removed_says_so(tmp_path: Path) -> None:
    files = write(tmp_path, append(0), event(1, payload="{}"))
    events, parts = segments.read_events(tmp_path, files), segments.read_parts(tmp_path, files)

    without, other = segments.recorded_events(events, parts)
    assert without.message() == b'{"type":"input_audio_buffer.append","audio":""}'
    assert (without.redacted, other.redacted) == (True, False)
    with pytest.raises(AudioRemovedError, match=f"event 0 of session {SESSION}"):
        list(segments.recorded_events(events, parts, whole=True))


def test_a_newer_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FORMAT_VERSION", 99)
    files = write(tmp_path, event(0))
    monkeypatch.undo()

    with pytest.raises(NewerFormatError, match="format version 99 is newer"):
        segments.read(tmp_path, files, "events")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, event(0))
    path = tmp_path / files[0].path
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=SESSION):
        segments.read(tmp_path, files, "events")
    path.unlink()
    with pytest.raises(StoreError, match=SESSION):
        segments.read(tmp_path, files, "events")


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "", "a/b", SESSION.upper(), SESSION + "\n"])
def test_only_session_ids_become_file_names(hostile: str) -> None:
    with pytest.raises(StoreError, match="is not a session id"):
        layout.segment_path("events", DATE, hostile)


def test_split_parts_a_table_by_session() -> None:
    rows = [event(0), event(1)]
    rows[1].session_id = OTHER

    parted = segments.split(schema.events_table(rows), [SESSION, OTHER])

    assert {key: table["position"].to_pylist() for key, table in parted.items()} == {SESSION: [0], OTHER: [1]}


def test_split_takes_rows_in_any_order_and_sessions_without_any() -> None:
    rows = [event(n) for n in range(4)]
    rows[1].session_id = rows[2].session_id = OTHER

    for table in (schema.events_table(rows), schema.EVENTS.empty_table()):
        parted = segments.split(table, [SESSION, OTHER, "without"])
        expected = [[0, 3], [1, 2], []] if table.num_rows else [[], [], []]
        assert [parted[key]["position"].to_pylist() for key in (SESSION, OTHER, "without")] == expected
        assert {found.schema for found in parted.values()} == {schema.EVENTS}


def test_tables_grow_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_tables, "_BATCH", 3)

    tables = session_tables.collect(SESSION, (append(n) for n in range(10)))

    assert tables.count == 10
    assert tables.events()["position"].to_pylist() == list(range(10))
    assert tables.parts()["position"].to_pylist() == list(range(10))
    assert tables.first is not None
    assert tables.first.parts == ()


def test_few_rows_are_compressed_where_they_are_large(tmp_path: Path) -> None:
    files = write(tmp_path, event(0, payload="speak " * 100_000), event(1))

    assert files[0].bytes < 10_000
