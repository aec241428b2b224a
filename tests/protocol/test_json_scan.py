import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.json_scan import scalars, string_value, strings_of
from tests.drawing import JSON_MARKS

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


NAMES = frozenset({"audio", "delta"})
TOKENS = [
    *(
        b'"audio"',
        b'"delta"',
        b'"a"',
        b'"\\u0061udio"',
        b'"delta\\""',
        b'"',
        b"\\",
        b'"[{,"',
        b'"x\xff"',
        b'""',
        b"7",
        b"nu",
    ),
    *(
        *JSON_MARKS,
        b" ",
        b'"audio":"eA=="',
        b'"a":1,',
        b'"b":"",',
        b"[]",
        b"{}",
        b'["",1],',
        b'{"c":0},',
    ),
]


def expected(text: bytes) -> list[tuple[tuple[str | int, ...], int, int]]:
    found = [(tuple(path), start, end) for path, start, end in scalars(text) if text[start] == ord('"')]
    return [one for one in found if one[0] and one[0][-1] in NAMES]


@given(st.lists(st.sampled_from(TOKENS), max_size=60))
def test_strings_of_some_names_are_those_of_all_scalars(tokens: list[bytes]) -> None:
    text = b"".join(tokens)
    assert [(tuple(path), start, end) for path, start, end in strings_of(text, NAMES)] == expected(text)


@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["", "eA==", '"', "x,]"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from("abc") | st.sampled_from(sorted(NAMES)), inner)
        ),
        max_leaves=30,
    ),
    st.sampled_from([None, 1]),
)
def test_strings_of_some_names_in_whole_messages(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    assert [(tuple(path), start, end) for path, start, end in strings_of(text, NAMES)] == expected(text)


@pytest.mark.parametrize("bomb", [b"[" * 200_000, b'{"a":' * 100_000, b'"' + b'\\"' * 200_000, b'"\\' * 100_000])
def test_bombs_end_soon(bomb: bytes) -> None:
    """A scan that is quadratic in any of these would not end within the suite's patience."""
    assert sum(1 for _ in scalars(bomb)) <= 1
    assert sum(1 for _ in strings_of(bomb, NAMES)) <= 1


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
