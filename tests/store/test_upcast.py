from __future__ import annotations

import pyarrow as pa
import pytest

from recorder.store import upcast
from recorder.store.schema import PARTS


def test_a_manifest_of_version_1_names_its_session_and_its_facts() -> None:
    old = {"format_version": 1, "session_id": "s", "date": "2026-01-31", "recorder_version": "0.1.0", "files": []}

    new = upcast.manifest(old | {"facts": {"event_count": 3}}, 1, to=2)

    assert new.pop("name") == "s"
    assert new.pop("sessions") == {"s": {"event_count": 3}}
    assert new == {"format_version": 1, "date": "2026-01-31", "recorder_version": "0.1.0", "files": []}
    assert upcast.manifest(old, 1, to=2)["sessions"] == {"s": {}}


def test_parts_of_version_1_have_their_bytes_and_no_block() -> None:
    columns = {"session_id": ["s", "s"], "position": [1, 2], "part_no": pa.array([0, 0], pa.int32())}
    columns |= {"json_offset": [3, 4], "kind": ["audio", "image"], "encoding": ["base64", "base64"]}
    old = pa.table(columns | {"bytes": [b"\x01\x02", b""]})

    new = upcast.table("parts", old, 1, to=2)

    assert new.schema.names == PARTS.names
    assert [field.type for field in new.schema] == [field.type for field in PARTS]
    assert new["size_bytes"].to_pylist() == [2, 0]
    assert new["block_position"].to_pylist() == new["block_offset"].to_pylist() == [None, None]
    assert new["bytes"].to_pylist() == [b"\x01\x02", b""]


@pytest.mark.parametrize("data_set", ["events", "appends", "sessions"])
def test_what_did_not_change_stays(data_set: str) -> None:
    rows = pa.table({"position": [1]})

    assert upcast.table(data_set, rows, 1, to=2) is rows
