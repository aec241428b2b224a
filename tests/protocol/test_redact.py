import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.redact import (
    fingerprint,
    may_hold_secrets,
    redact_headers,
    redact_message,
    redact_target,
)

KEY = "sk-proj-abcdefghijklmnop"


def test_a_fingerprint_names_a_secret_without_telling_it() -> None:
    assert fingerprint(KEY) == "redacted:sha256:" + hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert fingerprint(fingerprint(KEY)) == fingerprint(KEY)


def redacted(text: str) -> str:
    assert may_hold_secrets(text)
    result, found = redact_message(text.encode())
    assert found
    return result.decode()


@pytest.mark.parametrize("holder", ["session", "response"])
def test_mcp_tools_lose_authorization_and_headers_and_nothing_else(holder: str) -> None:
    text = (
        f'{{ "type":"session.update","{holder}":{{"tools":[{{"type":"function","name":"authorization"}},\n'
        f'{{"type":"mcp","server_label":"a","authorization": "{KEY}","headers":{{"X-Token":"t\\u0061","n":7}}}}]}}}}'
    )
    expected = (
        text.replace(KEY, fingerprint(KEY))
        .replace('"t\\u0061"', f'"{fingerprint("ta")}"')
        .replace(":7}", f':"{fingerprint("7")}"}}')
    )
    assert redacted(text) == expected


def test_client_secrets_lose_their_value_only() -> None:
    text = '{"session":{"client_secret":{"value":"ek_68af296e8e408191a1120ab6383263c5","expires_at":1756310470}}}'
    assert redacted(text) == text.replace(
        "ek_68af296e8e408191a1120ab6383263c5", fingerprint("ek_68af296e8e408191a1120ab6383263c5")
    )
    assert redacted('{"client_secret":"ek_1"}') == f'{{"client_secret":"{fingerprint("ek_1")}"}}'


def test_an_ephemeral_key_is_found_anywhere() -> None:
    text = '{"value":"ek_68af296e8e408191a1120ab6","note":"ek_ is how they begin"}'
    assert redacted(text) == text.replace("ek_68af296e8e408191a1120ab6", fingerprint("ek_68af296e8e408191a1120ab6"))


def test_keys_written_with_escapes_are_found() -> None:
    text = '{"session":{"tools":[{"\\u0061uthorization":"secret"}]}}'
    assert redacted(text) == text.replace("secret", fingerprint("secret"))


def test_nested_and_cut_off_secrets_are_found() -> None:
    assert "secret" not in redacted('{"session":{"tools":[{"headers":{"a":["secret",{"b":"secret"}]}}]}}')
    assert "secr" not in redacted('{"session":{"tools":[{"authorization":"secr')


@pytest.mark.parametrize(
    "text",
    [
        '{"session":{"tools":[{"type":"mcp","extra_headers":{"X":"SECRET"}}]}}',
        '{"session":{"tools":[{"type":"namespace","tools":[{"authorization":"SECRET"}]}]}}',
        '{"response":{"tools":[{"parameters":{"tools":1}},{"headers":["SECRET"]}]}}',
        '{"session":{"client_secret":["SECRET",{"secret":"SECRET"}]}}',
        '{"session":{"avatar":{"ice_servers":[{"urls":["turn:a"],"credential":"SECRET"}]}}}',
    ],
)
def test_secrets_of_other_dialects_are_found(text: str) -> None:
    assert redacted(text) == text.replace("SECRET", fingerprint("SECRET"))


def test_an_ephemeral_key_with_escapes_is_found() -> None:
    text = '{"value":"\\u0065k_68af296e8e40\\u0038191a1120ab6"}'
    assert redacted(text) == f'{{"value":"{fingerprint("ek_68af296e8e408191a1120ab6")}"}}'


def test_the_address_of_an_mcp_server_loses_its_secrets_alone() -> None:
    text = '{"session":{"tools":[{"type":"mcp","server_url":"https://u:%s@mcp.example\\/a?x=1&api_key=%s"}]}}'
    once = redacted(text % ("pass", "abc"))
    assert once == text.replace("\\/", "/") % (fingerprint("pass"), fingerprint("abc"))
    assert redact_message(once.encode()) == (once.encode(), True)
    plain = b'{"tools":[{"server_url":"https:\\/\\/mcp.example\\/a?x=1"}]}'
    assert redact_message(plain) == (plain, False)


@pytest.mark.parametrize(
    "text",
    [
        '{"session":{"tools":[{"authorization":null,"headers":{}}]}}',
        '{"session":{"tools":[{"authorization":""}]}}',
        '{"item":{"arguments":"{\\"authorization\\":\\"x\\"}"}}',
        '{"session":{"tools":[{"parameters":{"properties":{"authorization":{"type":"string"}}}}]}}',
        '{"authorization":"not a tool","headers":{"a":"b"},"value":"x"}',
        '{"text":"caf\\u00e9"}',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_message(text.encode()) == (text.encode(), False)


def test_redacting_twice_changes_nothing_and_still_says_so() -> None:
    once = redacted(f'{{"session":{{"tools":[{{"authorization":"{KEY}"}}]}}}}')
    assert redact_message(once.encode()) == (once.encode(), True)


def test_a_cheap_look_at_a_message_without_secrets() -> None:
    assert not may_hold_secrets('{"type":"input_audio_buffer.append","audio":"AAAA"}')


SECRETS = st.text(alphabet='abcdefghijklmnopqrstuvwxyz"\\/é☃\n ', min_size=12, max_size=20)


@given(SECRETS, SECRETS, st.booleans(), st.sampled_from([None, 2]))
def test_no_secret_survives_and_the_text_stays_json(
    token: str, header: str, ascii_only: bool, indent: int | None
) -> None:
    message = {
        "type": "session.update",
        "session": {"tools": [{"type": "mcp", "authorization": token, "headers": {"A": header}}], "voice": "marin"},
    }
    text = json.dumps(message, ensure_ascii=ascii_only, indent=indent).encode()
    result, found = redact_message(text)
    tool = message["session"]["tools"][0]  # type: ignore[index]
    tool["authorization"], tool["headers"]["A"] = fingerprint(token), fingerprint(header)
    assert found
    assert json.loads(result) == message
    assert result == json.dumps(message, ensure_ascii=ascii_only, indent=indent).encode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("Authorization", f"Bearer {KEY}"), f"Bearer {fingerprint(KEY)}"),
        (("authorization", f"bearer  {KEY}"), f"bearer  {fingerprint(KEY)}"),
        (("AUTHORIZATION", KEY), fingerprint(KEY)),
        (("Proxy-Authorization", "Basic dXNlcjpwYXNz"), f"Basic {fingerprint('dXNlcjpwYXNz')}"),
        (("api-key", "0123456789abcdef"), fingerprint("0123456789abcdef")),
        (("X-Api-Key", "k"), fingerprint("k")),
        (("Ocp-Apim-Subscription-Key", "k"), fingerprint("k")),
        (("x-amz-security-token", "k"), fingerprint("k")),
        (("Cookie", "session=abc; theme=dark"), fingerprint("session=abc; theme=dark")),
        (("Set-Cookie", "__cf_bm=abc; path=/"), fingerprint("__cf_bm=abc; path=/")),
        (("X-Forwarded-Thing", f"a {KEY} b"), f"a {fingerprint(KEY)} b"),
        (
            ("X-Whatever", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig"),
            fingerprint("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig"),
        ),
        (
            ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1"),
            f"realtime, openai-insecure-api-key.{fingerprint(KEY)}, openai-beta.realtime-v1",
        ),
        (
            ("Sec-WebSocket-Protocol", "realtime,openai-organization.org-Ab1,openai-project.proj_Ab1"),
            "realtime, openai-organization.org-Ab1, openai-project.proj_Ab1",
        ),
        (("sec-websocket-protocol", "bearer, abc"), f"bearer, {fingerprint('abc')}"),
        (("sec-websocket-protocol", "xai-client-secret.abc"), f"xai-client-secret.{fingerprint('abc')}"),
        (
            ("sec-websocket-protocol", "AbCdEf0123456789AbCdEf0123456789"),
            fingerprint("AbCdEf0123456789AbCdEf0123456789"),
        ),
        (("sec-websocket-protocol", "ek_68af296e8e408191a1120ab"), fingerprint("ek_68af296e8e408191a1120ab")),
    ],
)
def test_headers_with_secrets(header: tuple[str, str], expected: str) -> None:
    assert redact_headers([header]) == [(header[0], expected)]


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "api.openai.com"),
        ("User-Agent", "OpenAI/Python 3.54.0"),
        ("OpenAI-Beta", "realtime=v1"),
        ("OpenAI-Organization", "org-123"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ("Sec-WebSocket-Protocol", "realtime"),
        ("X-RateLimit-Remaining-Tokens", "14999716"),
        ("X-Request-Id", "req_011CSHoEeqs5C35K2UUqR7Fy"),
        ("WWW-Authenticate", "Bearer realm=api"),
        ("Authorization", ""),
        ("Accept", "text/html;q=0.9, */*;q=0.8"),
        ("Forwarded", "for=192.0.2.1;proto=https;by=203.0.113.43"),
        ("Referer", "https://app.example/call?lang=en"),
        ("Origin", "https://app.example:8443"),
    ],
)
def test_headers_without_secrets_stay(header: tuple[str, str]) -> None:
    assert redact_headers([header]) == [header]


def test_order_and_repetition_of_headers_stay() -> None:
    headers = [("A", "1"), ("Cookie", "x"), ("A", "2"), ("Cookie", "x")]
    assert [name for name, _ in redact_headers(headers)] == ["A", "Cookie", "A", "Cookie"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/realtime?model=gpt-realtime", "/v1/realtime?model=gpt-realtime"),
        ("/v1/realtime", "/v1/realtime"),
        (
            "/openai/realtime?api-version=2025-04-01-preview&deployment=d&api-key=abc",
            f"/openai/realtime?api-version=2025-04-01-preview&deployment=d&api-key={fingerprint('abc')}",
        ),
        ("/x?API_KEY=abc&Access%5FToken=d%2Be", f"/x?API_KEY={fingerprint('abc')}&Access%5FToken={fingerprint('d+e')}"),
        ("/x?key=a;sig=b", f"/x?key={fingerprint('a')};sig={fingerprint('b')}"),
        (
            "/x?token=&client_secret=ek_1&authorization=Bearer+x",
            f"/x?token=&client_secret={fingerprint('ek_1')}&authorization={fingerprint('Bearer x')}",
        ),
        (f"/x?note={KEY}", f"/x?note={fingerprint(KEY)}"),
        (f"/{KEY}/x", f"/{fingerprint(KEY)}/x"),
        ("wss://user:pass@host/x?call_id=rtc_1", f"wss://user:{fingerprint('pass')}@host/x?call_id=rtc_1"),
        (
            "/v1;api_key=abc/realtime?accountKey=b",
            f"/v1;api_key={fingerprint('abc/realtime')}?accountKey={fingerprint('b')}",
        ),
        ("/x?a=b=c&&d?e", "/x?a=b=c&&d?e"),
    ],
)
def test_targets(target: str, expected: str) -> None:
    assert redact_target(target) == expected
    assert redact_target(expected) == expected


@given(st.text(max_size=60))
def test_any_text_can_be_redacted(text: str) -> None:
    redact_target(text)
    redact_headers([(text, text), ("Sec-WebSocket-Protocol", text), ("Authorization", text)])
