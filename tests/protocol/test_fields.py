import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.fields import Fields, read_fields, read_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["type", "event_id", "response_id", "item_id", "call_id", "output_index", "item", "response", "id", "delta"]
)


def ids(fields: Fields) -> tuple[str | None, ...]:
    return (fields.event_id, fields.response_id, fields.item_id, fields.call_id, fields.previous_item_id)


def test_the_usual_message() -> None:
    fields = read_fields(
        b'{"event_id":"event_1","type":"response.output_text.delta","response_id":"resp_1","item_id":"item_1",'
        b'"output_index":0,"content_index":2,"delta":"Hi"}'
    )
    assert fields.type == "response.output_text.delta"
    assert ids(fields) == ("event_1", "resp_1", "item_1", None, None)
    assert (fields.output_index, fields.content_index) == (0, 2)
    assert bytes(fields.delta) == b'"Hi"'


def test_ids_of_the_thing_a_message_is_about() -> None:
    fields = read_fields(
        b'{"type":"conversation.item.create","previous_item_id":"root",'
        b'"item":{"id":"item_1","type":"function_call_output","call_id":"call_1"}}'
    )
    assert ids(fields) == (None, None, "item_1", "call_1", "root")
    assert read_fields(b'{"response":{"id":"resp_1"}}').response_id == "resp_1"
    assert read_fields(b'{"response_id":"top","response":{"id":"inner"}}').response_id == "top"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"type":7}', None),
        (b'{"type":null}', None),
        (b'{"type":["x"]}', None),
        (b'["type","x"]', None),
        (b'"type"', None),
        (b"", None),
        (b'{"type":"x"', None),
        (b'{"type":"x"} trailing', None),
        (b"{'type':'x'}", None),
        (b'{"a":NaN,"type":"x","b":-Infinity}', "x"),
        (b'\xef\xbb\xbf{"type":"x"}', "x"),
        (b'{"type":"first","type":"last"}', "last"),
        (b'{"type":"\\ud800x"}', "?x"),
        (b'{"type":"x","other":"\\udfff"}', "x"),
        (b'{"type":"a\\u0000b"}', "a\0b"),
        (b'{"type":"a\x00b"}', "a\0b"),
        (b'{"type":"x","n":1' + b"0" * 5000 + b"}", "x"),
        (b'{"type":"x","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "x"),
        (b'{"type":"x","deep":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "x"),
        (b"[" * 100_000 + b'"x"' + b"]" * 100_000, None),
    ],
)
def test_type_of_the_strange(text: bytes, expected: str | None) -> None:
    assert read_fields(text).type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"event_1"', "event_1"),
        ("12", "12"),
        ("null", None),
        ("1.5", None),
        ("true", None),
        ('{"a":1}', None),
        ("[]", None),
        ("9" * 30, "9" * 30),
        ("9" * 5000, None),
        ('"\\ud83d"', "?"),
    ],
)
def test_ids_of_other_types(value: str, expected: str | None) -> None:
    assert read_fields(f'{{"type":"x","event_id":{value}}}'.encode()).event_id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3),
        ("-1", -1),
        ("2147483647", 2**31 - 1),
        ("2147483648", None),
        ("1.0", None),
        ("true", None),
        ('"1"', None),
    ],
)
def test_indexes_fit_their_column(value: str, expected: int | None) -> None:
    assert read_fields(f'{{"output_index":{value}}}'.encode()).output_index == expected


def test_items_and_responses_of_other_types() -> None:
    fields = read_fields(b'{"type":"x","event_id":"e","item":"item_1","response":[1]}')
    assert (fields.type, ids(fields)) == ("x", ("e", None, None, None, None))
    assert read_fields(b'{"item":{"id":5,"call_id":null},"response":{"id":{}}}').item_id == "5"


def test_ids_within_a_bomb() -> None:
    bomb = b'{"type":"x","event_id":"e","item":{"id":"i"},"z":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert ids(read_fields(bomb)) == ("e", None, "i", None, None)


@given(st.dictionaries(NAMES, JSON, max_size=6), st.booleans())
def test_any_object_gives_storable_values(message: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    fields = read_fields(text)
    for value in (fields.type, *ids(fields)):
        assert value is None or value.encode() is not None
    kind = message.get("type")
    if isinstance(kind, str):
        assert fields.type == kind


@given(st.binary(max_size=60))
def test_any_bytes_can_be_read(text: bytes) -> None:
    read_fields(text)
    assert isinstance(read_object(text), dict)


def test_of_a_huge_message_no_object_is_made() -> None:
    small, huge = (b'{"type":"session.update","a":[' + b"[]," * n + b"0]}" for n in (10, 2_000_000))
    assert read_object(small)["type"] == "session.update"
    assert read_object(huge) == {}
    assert read_fields(huge).type == "session.update"
