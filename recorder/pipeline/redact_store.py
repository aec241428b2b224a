"""Redaction of stored sessions: texts replaced, spans of audio silenced, and all derived rows made anew.

Times, ids, sizes and durations stay, so that what is measured stays what it was. The originals are gone afterwards, as
after erasing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from recorder.analytics.engine import run_models
from recorder.errors import SessionNotFoundError, SessionRunningError, StoreError
from recorder.pipeline import audio_timeline
from recorder.pipeline.adopt import sweep_all
from recorder.pipeline.aside import quarantined
from recorder.pipeline.recover import clear_spools
from recorder.pipeline.remove import stored_sessions, unlink
from recorder.pipeline.replace import Change, changed, commit, listed, sweep
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.redact_text import REPLACEMENT, redact_pattern
from recorder.store import audit, edits, layout, segments, session_tables
from recorder.store.manifests import Manifest
from recorder.store.schema import PARTS

Speaker = Literal["caller", "assistant", "both"]

_NS_PER_MS: Final = 1e6
_ULAW_SILENCE: Final = 0xFF
_ALAW_SILENCE: Final = 0xD5


class Mute(NamedTuple):
    """A span of audio to be silenced, by positions or by time.

    Attributes:
        start: the first position, or seconds from the opening on, as `recorder export` places the sound.
        end: the last position, or seconds.
        by_position: which of the two.
        speaker: whose audio.
    """

    start: float
    end: float
    by_position: bool = False
    speaker: Speaker = "both"


class RedactReport(msgspec.Struct):
    """What `redact` did to a session.

    Attributes:
        session_id: whose.
        matches: how many texts were replaced.
        events: in how many events something was replaced or silenced.
        muted_ms: how much audio was silenced, in milliseconds.
        unquarantined: files in quarantine that are gone: copies of what is stored, unredacted.
    """

    session_id: str
    matches: int = 0
    events: int = 0
    muted_ms: float = 0.0
    unquarantined: list[str] = []


def redact(
    data_dir: Path,
    session_ids: Sequence[str],
    *,
    patterns: Sequence[re.Pattern[str]] = (),
    mutes: Sequence[Mute] = (),
    reason: str = "",
) -> list[RedactReport]:
    """Replace texts and silence audio of sealed sessions, and put down that it was done.

    A session in which nothing is found stays as it is.

    Args:
        data_dir: the store.
        session_ids: whole ids.
        patterns: what they find in a text is replaced by `REPLACEMENT`.
        mutes: spans of audio.
        reason: the operator's words, for the audit record.

    Raises:
        SessionNotFoundError: there is no such session.
        SessionRunningError: one of them still runs.
        StoreError: one is not sealed yet, or what is in quarantine of it cannot go; or a file is missing or damaged.
    """
    reports = []
    clear_spools(data_dir)
    with layout.rewriting(data_dir):
        sweep_all(data_dir)  # what a removal that was broken off has left
        for session_id in dict.fromkeys(session_ids):
            _check(data_dir, session_id)
        for session_id in dict.fromkeys(session_ids):
            manifest = listed(data_dir).sessions[session_id]
            session = _Session(data_dir, manifest, session_id)
            for pattern in patterns:
                session.replace(pattern)
            if mutes:
                session.mute(mutes)
            if session.touched:
                change = Change(instead={session_id: session.rows()})
                commit(data_dir, [changed(data_dir, manifest, change)])
                sweep(data_dir)
                _clear_quarantine(data_dir, session.report)
            reports.append(session.report)
        found = [report for report in reports if report.events]
        if found:
            audit.append(data_dir, _entry(found, reason))
    return reports


def _entry(found: Sequence[RedactReport], reason: str) -> audit.Entry:
    return audit.Entry(
        "redact",
        len(found),
        sum(report.events for report in found),
        matches=sum(report.matches for report in found),
        muted_ms=sum(report.muted_ms for report in found),
        reason=reason,
        session_digests=audit.digests(report.session_id for report in found),
    )


def _check(data_dir: Path, session_id: str) -> None:
    stored = stored_sessions(data_dir).get(session_id)
    if stored is None:
        raise SessionNotFoundError(session_id)
    if stored.is_running:
        raise SessionRunningError(session_id)
    if stored.facts is None:
        raise StoreError(f"session {session_id} is not sealed yet", hint="`recorder seal` does it; try again then.")
    _check_quarantine(data_dir, session_id)


def _check_quarantine(data_dir: Path, session_id: str) -> None:
    """What lies there is not rewritten, since most of it cannot be read: it must be a mere copy, that may go."""
    there, stored = quarantined(data_dir).by_session, listed(data_dir).sessions
    for path in there.get(session_id, ()):
        lost = sorted(key for key, paths in there.items() if path in paths and key not in stored)
        if lost:
            where = path.relative_to(data_dir).as_posix()
            raise StoreError(
                f"{where} has something of session {session_id}, and all there is of {lost[0]}",
                hint=f"Move it out of the store, or `recorder erase {lost[0]}`; then try again.",
            )


def _clear_quarantine(data_dir: Path, report: RedactReport) -> None:
    paths = quarantined(data_dir).by_session.get(report.session_id, [])
    unlink(paths)
    report.unquarantined = sorted(path.relative_to(data_dir).as_posix() for path in paths)


class _Session:
    """A session's rows in memory, and what becomes of them."""

    def __init__(self, data_dir: Path, manifest: Manifest, session_id: str) -> None:
        whose = None if manifest.only == session_id else session_id
        self.report = RedactReport(session_id)
        self.touched: set[int] = set()
        self._events = segments.read_events(data_dir, manifest.files, session_id=whose)
        self._parts = segments.read_parts(data_dir, manifest.files, session_id=whose)
        self._audio: Any = None
        self._files, self._whose, self._data_dir = manifest.files, whose, data_dir

    def _blocks(self) -> Iterator[dict[str, Any]]:
        return segments.read_audio(self._data_dir, self._files, session_id=self._whose)

    def replace(self, pattern: re.Pattern[str]) -> None:
        """Take out of texts what a pattern finds."""
        offsets: dict[int, list[tuple[int, int, str]]] = {}
        for part in segments.rows(self._parts.select(["position", "part_no", "json_offset", "kind"])):
            offsets.setdefault(part["position"], []).append((part["part_no"], part["json_offset"], part["kind"]))
        places = {position: [offset for _, offset, _ in parts] for position, parts in offsets.items()}
        found = redact_pattern(self._recorded(), pattern, places)
        moved = {
            (position, number): text.moved(offset)
            for position, text in found.events.items()
            for number, offset, _ in offsets.get(position, ())
        }
        payloads = {position: text.payload for position, text in found.events.items()}
        self._events = edits.with_payloads(self._events, payloads)
        self._parts = edits.with_offsets(self._parts, moved)
        opaque, matches = self._opaque(pattern)
        self._parts = edits.with_bytes(self._parts, opaque)
        self._flag({position for position, _ in opaque} | payloads.keys())
        self.report.matches += found.matches + matches

    def _opaque(self, pattern: re.Pattern[str]) -> tuple[dict[tuple[int, int], bytes], int]:
        """Messages that are no text, or could not be decoded: their bytes are searched as if they were."""
        found, matches = {}, 0
        for part in segments.rows(self._parts):
            if part["kind"] == "binary" and part["bytes"] is not None:
                text = part["bytes"].decode("utf-8", "surrogateescape")
                new, count = pattern.subn(lambda match: REPLACEMENT if match.group() else "", text)
                if new != text:
                    found[part["position"], part["part_no"]] = new.encode("utf-8", "surrogateescape")
                    matches += count
        return found, matches

    def mute(self, mutes: Iterable[Mute]) -> None:
        """Silence spans of audio."""
        events = self._recorded()
        lengths = {event.position: event.audio_ms for event in events if event.audio_ms}
        spans = _spans(events, mutes)
        muting = edits.Muting(self._parts, spans, lengths, _g711_silence(events))
        self._audio = muting.blocks(self._blocks())
        self._parts = edits.with_bytes(self._parts, muting.values())
        inline = spans.keys() & lengths.keys() - muting.positions
        if inline:
            self._events = edits.with_payloads(self._events, edits.without_inline_audio(self._events, inline))
        self._flag(muting.positions | inline)
        self.report.muted_ms = sum(_length(spans[position]) for position in muting.positions | inline)

    def _flag(self, positions: Iterable[int]) -> None:
        self.touched |= set(positions)
        self._events = edits.flagged(self._events, self.touched)
        self.report.events = len(self.touched)

    def _recorded(self) -> list[RecordedEvent]:
        return list(segments.recorded_events(self._events, PARTS.empty_table()))

    def rows(self) -> Mapping[str, Any]:
        """All its rows by data set, those of models made anew."""
        audio = edits.audio_table(self._blocks()) if self._audio is None else self._audio
        stored = session_tables.by_data_set(self._events) | {"parts": self._parts, "audio": audio}
        return stored | run_models(self._events)


def _spans(events: Sequence[RecordedEvent], mutes: Iterable[Mute]) -> dict[int, list[edits.Span]]:
    """By position, what of the message's audio is to be silenced."""
    found: dict[int, list[edits.Span]] = {}
    # What was cut off, and never heard, goes with what would have been heard.
    pieces = [*audio_timeline.place(events), *audio_timeline.place(events, as_sent=True)]
    for mute in mutes:
        for position, span in _by_position(events, mute) if mute.by_position else _by_time(pieces, mute):
            found.setdefault(position, []).append(span)
    return found


def _by_position(events: Sequence[RecordedEvent], mute: Mute) -> Iterator[tuple[int, edits.Span]]:
    sides = {"caller": {"client"}, "assistant": {"server"}, "both": {"client", "server"}}[mute.speaker]
    for event in events:
        if mute.start <= event.position <= mute.end and event.audio_ms and event.direction in sides:
            yield event.position, (0.0, event.audio_ms)


def _by_time(pieces: Iterable[audio_timeline.Piece], mute: Mute) -> Iterator[tuple[int, edits.Span]]:
    for piece in pieces:
        if mute.speaker != "both" and piece.is_caller != (mute.speaker == "caller"):
            continue
        start = max(0.0, mute.start * 1000 - piece.start_ns / _NS_PER_MS)
        end = min(piece.play_ms, mute.end * 1000 - piece.start_ns / _NS_PER_MS)
        if start < end:
            yield piece.position, (start, end)


def _length(spans: Iterable[edits.Span]) -> float:
    """How long spans are together, where they lie over each other counted once."""
    total = done = 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, done))
        done = max(done, end)
    return total


def _g711_silence(events: Sequence[RecordedEvent]) -> int:
    formats = "".join(event.payload or "" for event in events if (event.type or "").startswith("session."))
    return _ALAW_SILENCE if re.search(r"audio/pcma|g711_alaw", formats) else _ULAW_SILENCE
