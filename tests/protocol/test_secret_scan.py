"""The search for secrets finds what a look at every token would, and is not held up by how many there are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol import redact, secret_scan
from recorder.protocol.json_scan import scalars
from recorder.protocol.redact import fingerprint, redact_message

KEY = "ek_0123456789abcdef"
NAMES = [
    *("client_secret", "ice_servers", "credential", "tools", "server_url", "authorization", "headers", "extra_headers"),
    *("value", "a", "", "type", "session", "mytools", "tools2", "\u0074ools", "sch\u00f6n", KEY, 'a"b', "back\\slash"),
]
LEAVES = st.one_of(
    st.sampled_from([*NAMES, "https://u:p@host/?key=abc", "ek", "x" * 40]), st.integers(), st.booleans(), st.none()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=30,
)
TOKENS = [
    *("{", "}", "[", "]", ",", ":", " ", "\n", '"', "\\", "1", "null", "tools", "client_secret", "ek_", '\\"', "\x85"),
    *(json.dumps(name) for name in NAMES),
    *(r'"\u0074ools"', r'"client\u005fsecret"', r'"\u0065k_0123456789abcdef"', '"unfinished', '"\\'),
    *('{"tools":[{"', '"headers":{"', '"client_secret":', '"ice_servers":[{', "[" * 9, "]" * 9, '{"a":' * 8),
]


def slowly(text: bytes) -> tuple[bytes, bool]:
    """The same with a look at every token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redact, "candidates", scalars)
        return redact_message(text)


@given(VALUES, st.booleans())
def test_in_json_the_same_is_found(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert redact_message(text) == slowly(text)


@given(st.lists(st.sampled_from(TOKENS), max_size=60))
def test_in_anything_else_too(tokens: list[str]) -> None:
    text = "".join(tokens).encode("latin-1", "replace")
    assert redact_message(text) == slowly(text)


@given(st.lists(st.sampled_from(TOKENS), max_size=60))
def test_wherever_the_text_is_cut_for_counting(tokens: list[str]) -> None:
    text = "".join(tokens).encode("latin-1", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret_scan, "_CHUNK", 3)
        assert redact_message(text) == slowly(text)


def test_behind_a_megabyte_of_small_tokens() -> None:
    begin, secret = b'{"x":"\\u0041","a":[' + b'{"b":[1,"c"]},' * 80_000, b'"tools":[{"headers":{"k":"v"}}]}'
    assert redact_message(begin + b"0]," + secret) == (
        begin + b"0]," + b'"tools":[{"headers":{"k":"%b"}}]}' % fingerprint("v").encode(),
        True,
    )


def test_a_message_of_nothing_but_names_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_scan, "MOST_TOKENS", 4)
    text = b'{"tools":1,"tools":2,"tools":3,"tools":4,"tools":5}'
    kept, found = redact_message(text)
    rest = text.removeprefix(b'{"tools":1,"tools":2,"tools":3,"tools"')
    assert found
    assert kept == b'{"tools":1,"tools":2,"tools":3,"tools""' + fingerprint(rest.decode()).encode() + b'"'
