from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.projection.playback import Playback

MS = 1_000_000


def test_audio_plays_in_real_time_from_its_arrival() -> None:
    playback = Playback()
    playback.add("a", 1000 * MS, 500)
    assert [playback.heard_ms("a", at * MS) for at in (900, 1000, 1200, 1500, 9000)] == [0, 0, 200, 500, 500]


def test_what_arrives_early_waits_its_turn() -> None:
    playback = Playback()
    playback.add("a", 0, 500)
    playback.add("b", 100 * MS, 500)
    assert playback.heard_ms("b", 500 * MS) == 0
    assert playback.heard_ms("b", 700 * MS) == 200


def test_what_arrives_late_leaves_a_pause() -> None:
    playback = Playback()
    playback.add("a", 0, 100)
    playback.add("a", 300 * MS, 100)
    assert playback.heard_ms("a", 350 * MS) == 150


def test_a_cut_stops_what_is_queued_and_what_comes_later() -> None:
    playback = Playback()
    playback.add("a", 0, 500)
    playback.add("b", 0, 500)
    playback.cut(200 * MS)
    playback.add("a", 300 * MS, 500)
    playback.cut(900 * MS)
    assert {name: playback.heard_ms(name, 5000 * MS) for name in ("a", "b")} == {"a": 200, "b": 0}
    assert (playback.spans("a"), playback.spans("b")) == ([(0, 200 * MS)], [])


def test_a_cut_after_the_end_changes_nothing() -> None:
    playback = Playback()
    playback.add("a", 0, 100)
    playback.cut(100 * MS)
    assert playback.heard_ms("a", 5000 * MS) == 100


def test_the_item_that_began_last_is_playing() -> None:
    playback = Playback()
    playback.add("a", 0, 100)
    playback.add("b", 10 * MS, 100)
    assert [playback.playing(at * MS) for at in (-1, 50, 99, 100, 500)] == [None, "a", "a", "b", "b"]


def test_audio_without_times_is_not_played_but_delays_what_follows() -> None:
    playback = Playback()
    playback.add("a", None, 100)
    assert (playback.heard_ms("a", 500 * MS), playback.audible_until_ns) == (None, None)
    playback.add("a", 200 * MS, 100)
    assert playback.spans("a") == [(200 * MS, 300 * MS)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.integers(1, 300)), max_size=20))
def test_never_more_than_arrived_nor_than_the_time_there_was(steps: list[tuple[bool, int, int]]) -> None:
    playback = Playback()
    now = arrived = 0
    for cut, wait, length in steps:
        now += wait
        if cut:
            playback.cut(now * MS)
        else:
            playback.add(str(arrived % 3), now * MS, length)
            arrived += length
    heard = sum(playback.heard_ms(name, now * MS) or 0 for name in "012")
    assert 0 <= heard <= min(arrived, now)
