import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.json_scan import scalars, string_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], object]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [(path, value)]


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_scalar_is_found_at_its_place(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = [(tuple(path), json.loads(text[start:end])) for path, start, end in scalars(text)]
    assert found == leaves(value)


@given(st.binary(max_size=80))
def test_anything_can_be_scanned(text: bytes) -> None:
    for path, start, end in scalars(text):
        assert 0 <= start < end <= len(text)
        assert all(isinstance(key, str | int) for key in path)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (b'\xef\xbb\xbf{"a": NaN}', [("",), ("a",)]),
        (b'{"a": {"b": "cut o', [("a", "b")]),
        (b'{"a": "ends in \\', [("a",)]),
        (b'{"a": 1}} , {"b": [2, 3]}', [("a",), ("b", 0), ("b", 1)]),
    ],
)
def test_broken_json_gives_what_can_be_made_out(text: bytes, paths: list[tuple[str | int, ...]]) -> None:
    found = [tuple(path) for path, start, _ in scalars(text) if text[start] != 0xEF]
    assert found == [path for path in paths if path != ("",)]


@pytest.mark.parametrize("bomb", [b"[" * 200_000, b'{"a":' * 100_000, b'"' + b'\\"' * 200_000, b'"\\' * 100_000])
def test_bombs_end_soon(bomb: bytes) -> None:
    """A scan that is quadratic in any of these would not end within the suite's patience."""
    assert sum(1 for _ in scalars(bomb)) <= 1


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b'"plain"', "plain"),
        (b'"\\u0061\\n"', "a\n"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud800"', "?"),
        (b'"bad \\x"', "bad \\x"),
        (b'"open', "open"),
        (b'"', ""),
        (b'"\xff"', "�"),
    ],
)
def test_string_value(token: bytes, value: str) -> None:
    assert string_value(token) == value
