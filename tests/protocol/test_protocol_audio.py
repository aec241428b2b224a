import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol import audio
from recorder.protocol.audio import (
    Formats,
    audio_key,
    bytes_per_ms,
    cut_media,
    cut_verbatim,
    may_hold_media,
)
from recorder.protocol.envelope import rebuild
from recorder.protocol.json_scan import scalars
from tests.drawing import JSON_MARKS

PCM = base64.b64encode(bytes(range(200))).decode()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"type": "audio/pcm", "rate": 24000}, 48.0),
        ({"type": "audio/pcm", "rate": 16000}, 32.0),
        ({"type": "audio/pcm"}, 48.0),
        ({"type": "audio/pcm", "rate": None}, 48.0),
        ({"type": "audio/pcm", "rate": "fast"}, 48.0),
        ({"type": "audio/pcm", "rate": -1}, 48.0),
        ({"type": "audio/pcm", "rate": True}, 48.0),
        ({"type": "audio/pcmu"}, 8.0),
        ({"type": "audio/PCMA", "rate": 8000}, 8.0),
        ("pcm16", 48.0),
        ("pcm16_16000hz", 32.0),
        ("pcm16-8000hz", 16.0),
        ("g711_ulaw", 8.0),
        ("g711_alaw", 8.0),
        ({"type": "audio/opus"}, None),
        ({"type": ["audio/pcm"]}, None),
        ("mp3", None),
        (None, None),
        (7, None),
    ],
)
def test_bytes_per_ms(stated: object, expected: float | None) -> None:
    assert bytes_per_ms(stated) == expected


def test_rate_and_channels_beside_the_name() -> None:
    assert bytes_per_ms("pcm16", 16000, 2) == 64.0
    assert bytes_per_ms("pcm16", float("nan"), 0) == 48.0


class TestFormats:
    def test_the_default_is_pcm_at_24_khz(self) -> None:
        assert (Formats().input, Formats().output("resp_1")) == (48.0, 48.0)

    def test_what_the_server_confirms_holds_not_what_the_client_asked(self) -> None:
        formats = Formats()
        formats.client_asks({"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
        assert formats.input == 48.0
        formats.server_confirms({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}})
        assert formats.input == 32.0

    def test_what_was_asked_holds_where_the_answer_is_silent(self) -> None:
        formats = Formats()
        formats.client_asks({"input_audio_format": "g711_ulaw"})
        formats.server_confirms({"id": "sess_1"})
        assert (formats.input, formats.output()) == (8.0, 48.0)
        formats.server_confirms({"input_audio_format": "pcm16"})
        formats.server_confirms({})
        assert formats.input == 48.0

    def test_beta_ga_and_live_places(self) -> None:
        formats = Formats()
        formats.server_confirms({"output_audio_format": "g711_alaw"})
        assert (formats.input, formats.output()) == (48.0, 8.0)
        formats.server_confirms({"audio": {"format": {"type": "audio/pcm", "rate": 16000}}})
        assert (formats.input, formats.output()) == (32.0, 32.0)

    def test_the_rate_that_voice_live_puts_beside_pcm(self) -> None:
        formats = Formats()
        formats.client_asks({"input_audio_sampling_rate": 16000})
        formats.server_confirms({"output_audio_format": "pcm16_16000hz"})
        assert (formats.input, formats.output()) == (32.0, 32.0)
        formats.server_confirms({"input_audio_format": "g711_ulaw", "input_audio_sampling_rate": 24000})
        assert formats.input == 8.0

    def test_an_unknown_format_has_no_rate(self) -> None:
        formats = Formats()
        formats.server_confirms({"audio": {"input": {"format": {"type": "audio/opus"}}}})
        assert formats.input is None

    def test_a_response_may_have_its_own_output(self) -> None:
        formats = Formats()
        formats.response_created("resp_1", {"audio": {"output": {"format": {"type": "audio/pcmu"}}}})
        formats.response_created("resp_2", {"status": "in_progress"})
        assert (formats.output("resp_1"), formats.output("resp_2"), formats.output()) == (8.0, 48.0, 48.0)

    def test_responses_are_not_remembered_for_ever(self) -> None:
        formats = Formats()
        for number in range(1000):
            formats.response_created(f"resp_{number}", {"output_audio_format": "g711_ulaw"})
        assert (formats.output("resp_0"), formats.output("resp_999")) == (48.0, 8.0)

    @pytest.mark.parametrize("strange", [None, 3, "x", [], {"audio": 3}, {"audio": {"input": 3}}, {"audio": None}])
    def test_strange_sessions_change_nothing(self, strange: object) -> None:
        formats = Formats()
        formats.client_asks(strange)
        formats.server_confirms(strange)
        formats.response_created("r", strange)
        assert (formats.input, formats.output("r")) == (48.0, 48.0)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("input_audio_buffer.append", "audio"),
        ("response.output_audio.delta", "delta"),
        ("response.audio.delta", "delta"),
        ("session.output_audio.delta", "delta"),
        ("response.output_audio_transcript.delta", "audio"),
        ("conversation.item.input_audio_transcription.delta", "audio"),
        ("response.output_text.delta", "audio"),
        (None, "audio"),
    ],
)
def test_audio_key(name: str | None, key: str) -> None:
    assert audio_key(name) == key


def places(text: str, event_type: str | None = None) -> list[tuple[str, int, bytes]]:
    raw = text.encode()
    cut = cut_media(raw, event_type)
    assert rebuild(cut.text, cut.parts) == raw
    return [(part.kind, part.json_offset, part.data) for part in cut.parts]


def test_audio_in_content_parts_and_output_items_is_cut() -> None:
    content = f'[{{"type":"input_audio","audio":"{PCM}"}},{{"type":"input_text","text":"x"}},{{"audio":"AAAA"}}]'
    for text in (
        f'{{"item":{{"content":{content}}}}}',
        f'{{"response":{{"output":[{{"content":{content}}}]}}}}',
        f'{{"response":{{"input":[{{"content":{content}}}]}}}}',
    ):
        assert [(kind, data) for kind, _, data in places(text)] == [
            ("audio", bytes(range(200))),
            ("audio", b"\x00\x00\x00"),
        ]
    assert [kind for kind, *_ in places(f'{{"part":{{"type":"audio","audio":"{PCM}"}}}}')] == ["audio"]


def test_images_are_cut_after_the_head_of_their_data_url() -> None:
    text = '{"item":{"content":[{"type":"input_image","image_url":"data:image\\/png;base64,AAAA","detail":"auto"}]}}'
    assert places(text) == [("image", text.index("AAAA"), b"\x00\x00\x00")]
    assert places('{"item":{"content":[{"image_url":"https://example.org/base64,AAAA"}]}}') == []
    assert places('{"item":{"content":[{"image_url":"data:image/svg+xml,AAAA"}]}}') == []


@pytest.mark.parametrize(
    "text",
    [
        '{"metadata":{"audio":"AAAA"}}',
        '{"session":{"audio":{"input":{"format":"AAAA"}}}}',
        '{"item":{"audio":"AAAA"}}',
        '{"delta":"AAAA"}',
        '{"audio":["AAAA"]}',
        '{"audio":""}',
        '{"audio":null}',
        '{"a":{"b":{"c":{"d":{"content":[{"audio":"AAAA"}]}}}}}',
        '{"item":{"arguments":"{\\"audio\\":\\"AAAA\\"}"}}',
        '["audio","AAAA"]',
    ],
)
def test_other_places_stay(text: str) -> None:
    assert places(text) == []


@pytest.mark.parametrize(
    ("encoded", "length"),
    [
        ("AAA", 2),  # no padding
        ("AAE=", 2),
        ("AAF=", 2),  # bits left over that encoding would not give again
        ("AA\\/A", 3),  # escaped slash
        ("AA\\u0041A", 3),
        ("AAAA\\n", 3),
        (" AAAA", 3),
        ("--__", 3),  # the alphabet of URLs
        ("A", None),
        ("not base64!", None),
        ("AAAA====", 3),
    ],
)
def test_what_would_not_come_back_exactly_stays_and_counts_all_the_same(encoded: str, length: int | None) -> None:
    text = f'{{"audio":"{encoded}"}}'.encode()
    cut = cut_media(text, None)
    exact = encoded == "AAE="
    assert (cut.text, bool(cut.parts)) == (('{"audio":""}', True) if exact else (text.decode(), False))
    assert cut.audio_bytes == length


def test_of_a_key_said_twice_the_last_counts() -> None:
    cut = cut_media(b'{"audio":"AAAA","audio":"AAAAAAAA"}', None)
    assert (cut.text, cut.audio_bytes, len(cut.parts)) == ('{"audio":"","audio":""}', 6, 2)


def test_one_value_that_is_no_base64_makes_the_sum_unknown() -> None:
    assert cut_media(b'{"item":{"content":[{"audio":"AAAA"},{"audio":"?"}]}}', None).audio_bytes is None


@pytest.mark.parametrize(
    ("text", "is_quick"),
    [
        ('{"type":"a","audio":"AAAA"}', True),
        ('{ "audio" :\t"AAAA" , "type":"a"}', True),
        ('{"x":{"audio":"AAAA"},"audio":"AAAA"}', False),
        ('{"x":"audio","audio":"AAAA"}', False),
        ('{"audio":"BBBB","audio":"AAAA"}', False),
        ('{"\\u0061udio":"AAAA"}', False),
    ],
)
def test_the_quick_way_is_taken_where_the_place_is_plain(text: str, is_quick: bool) -> None:
    quick = cut_verbatim(text.encode(), b'"audio"', b'"AAAA"')
    assert (quick is not None) == is_quick
    if quick is not None:
        assert quick == cut_media(text.encode(), None)
        assert rebuild(quick.text, quick.parts) == text.encode()


@given(
    st.binary(max_size=100),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.sampled_from([("audio", "input_audio_buffer.append"), ("delta", "response.output_audio.delta")]),
    st.integers(0, 3),
)
def test_the_quick_way_gives_what_the_scan_gives(
    data: bytes, others: dict[str, str], place: tuple[str, str], at: int
) -> None:
    key, event_type = place
    pairs = [pair for pair in others.items() if pair[0] != key]
    pairs.insert(at, (key, base64.b64encode(data).decode()))
    text = json.dumps(dict(pairs), ensure_ascii=False).encode("utf-8", "surrogatepass")
    quick = cut_verbatim(text, f'"{key}"'.encode(), f'"{base64.b64encode(data).decode()}"'.encode())
    thorough = cut_media(text, event_type)
    assert rebuild(thorough.text, thorough.parts) == text
    assert thorough.audio_bytes == (len(data) or None)
    assert quick in {None, thorough} if data else quick is None


def test_may_hold_media() -> None:
    assert may_hold_media('{"audio" : "x"}')
    assert may_hold_media('{"image_url":"x"}')
    assert not may_hold_media('{"modalities":["audio"],"audio":{"input":{}}}')


SOUP = [
    *(
        b'{"type":"x"',
        b'"audio"',
        b'"delta"',
        b'"image_url"',
        b'"content"',
        b'"part"',
        b'"eA=="',
        b'"e\\/"',
        b'"7"',
        b"7",
        b'""',
    ),
    *(
        *JSON_MARKS,
        b'"data:image/png;base64,eA=="',
        b'"content":[{"audio":"eHg="}],',
        b'"a":{"b":[1,""]},',
    ),
]


@given(st.lists(st.sampled_from(SOUP), max_size=50), st.sampled_from([None, "response.output_audio.delta"]))
def test_what_is_passed_over_holds_no_media(soup: list[bytes], event_type: str | None) -> None:
    text = b"".join(soup)
    cut = cut_media(text, event_type)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "strings_of", lambda text, _: (s for s in scalars(text) if text[s.start] == ord('"')))
        assert cut_media(text, event_type) == cut
