"""The conversation of a stored session at any position, fast enough to drag a slider along a call.

Seven of eight events are audio appends. All that the fold takes from them is how long they are: so they become a
running total beside the other events, and what changes nothing is left out before it becomes an object. Text that comes
word by word is taken in by the run, and left out where it comes as a whole later. What is ready to be folded is kept,
of the sessions that were asked for last.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl
from msgspec import structs

from recorder.errors import SessionNotFoundError
from recorder.projection import payload as json
from recorder.projection.conversation import Conversation, heeds
from recorder.projection.fold_content import BLIND, TEXT_FIELDS
from recorder.projection.state import ConversationState
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog

_APPENDS: Final = ("input_audio_buffer.append", "session.input_audio_buffer.append")
_COLUMNS: Final = (
    "position", "direction", "monotonic_ns", "type", "event_id", "response_id", "item_id", "call_id",
    "previous_item_id", "output_index", "content_index", "payload", "audio_ms",
)  # fmt: skip
"""The fields of a `RecordedEvent` in their order, the session and the wall time aside: all that the fold reads."""
_PLACE: Final = ("direction", "type", "response_id", "item_id", "content_index")
_WHOLE: Final = ("type", "item_id", "content_index", "payload", "position")
_WHOSE: Final = ("type", "item_id", "content_index", "position")
_WHOLE_PHASES: Final = ("done", "completed")
_APPENDED: Final = "appended_ms"
_MANY_PIECES: Final = 4000  # of text; fewer are as quickly taken in one by one
_KEPT: Final = 4  # sessions of 40,000 events take ten megabytes each


class _Piece(msgspec.Struct):
    delta: Any = None
    content_index: Any = None


_pieces: Final = msgspec.json.Decoder(list[_Piece]).decode


class TimeTravel:
    """Conversations of a store's sessions at any position. Safe for use from several threads.

    Args:
        catalog: the store.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[str, tuple[Any, Past]] = OrderedDict()
        self._lock = threading.Lock()

    def conversation(self, session_id: str, at: int | None = None) -> ConversationState:
        """A session's conversation right after a position; see `conversation_at`."""
        version = self._catalog.version(session_id)
        with self._lock:
            known, past = self._kept.pop(session_id, (None, None))
            if past is not None and known == version:
                self._kept[session_id] = known, past  # the one that was asked for last
        if past is None or known != version:
            past = _past(self._catalog, session_id)
            if version is not None:
                with self._lock:
                    self._kept[session_id] = version, past
                    while len(self._kept) > _KEPT:
                        self._kept.popitem(last=False)
        return past.conversation(at)

    def forget(self) -> None:
        """Let go of what is not stored any more as it was."""
        with self._lock:
            for session_id, (known, _) in list(self._kept.items()):
                try:
                    is_so = self._catalog.version(session_id) == known
                except SessionNotFoundError:
                    is_so = False
                if not is_so:
                    del self._kept[session_id]


def conversation_at(catalog: Catalog, session_id: str, at: int | None = None) -> ConversationState:
    """A session's conversation right after a position.

    Args:
        catalog: the store.
        session_id: the whole id.
        at: the last position to take in; None for all there are.

    Raises:
        SessionNotFoundError: there is no such session.
    """
    return _past(catalog, session_id).conversation(at)


def _past(catalog: Catalog, session_id: str) -> Past:
    return Past(catalog.events(session_id, columns=_COLUMNS))  # whole files are read faster than parts of them


class Past:
    """What a session's conversation at any position is made from.

    Args:
        rows: of `recorder.store.schema.EVENTS`, all there are, in any order.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        is_append = rows.select(
            pl.col("type").is_in(_APPENDS).fill_null(value=False) & (pl.col("direction") == "client")
        ).to_series()
        appends = _in_order(rows.select("position", "audio_ms").filter(is_append))
        self._appends = appends["position"]
        self._appended_ms = pl.concat([pl.Series([0.0]), appends["audio_ms"].fill_null(0.0).cum_sum()])
        self._times = _in_order(rows.select("position", "monotonic_ns")).with_columns(
            pl.col("monotonic_ns").cum_max().forward_fill()
        )
        others = _in_order(rows.select(_COLUMNS).filter(~is_append))
        before = self._appended_ms.gather(self._appends.search_sorted(others["position"]))
        self._take(others.with_columns(before.alias(_APPENDED)))

    def _take(self, rows: pl.DataFrame) -> None:
        """Keep the events that matter, and how much audio had been appended by then; of runs of text, the first."""
        kinds = {who: [name for name in names if heeds(who, name)] for who, names in _kinds(rows).items()}
        heeded = pl.any_horizontal(False, *(_is_of(who, names) for who, names in kinds.items()))
        marks = rows.select(heeded=heeded, is_piece=_is_of("server", filter(_is_piece, kinds.get("server", ()))))
        rows, is_piece = rows.filter(marks["heeded"]), marks["is_piece"].filter(marks["heeded"])
        self._pieces = rows.select("position", "payload")
        self._runs: dict[int, tuple[int, int]] = {}  # of more than one piece: by the event's number, from and to
        self._whole_at: dict[int, int] = {}  # by the number of a run, where a later event has its text whole
        if is_piece.sum() >= _MANY_PIECES:
            place = pl.struct(_PLACE)
            starts = rows.select(~is_piece | (place != place.shift(1)).fill_null(value=True)).to_series().arg_true()
            ends = enumerate(pairwise([*starts.to_list(), rows.height]))
            self._runs = {number: (start, end) for number, (start, end) in ends if end - start > 1}
            firsts = rows[[start for start, _ in self._runs.values()]]
            self._whole_at = dict(_superseded(rows.filter(~is_piece), firsts, self._runs))
            rows = rows[starts]
        self._positions = rows["position"].to_list()
        self._events = list(_events(rows))

    def conversation(self, at: int | None = None) -> ConversationState:
        """The state right after a position; at the end if None."""
        last = self._times["position"][-1] if at is None and len(self._times) else at
        conversation = Conversation()
        if last is None:
            return conversation.state()
        for number, (event, appended_ms) in enumerate(self._events[: bisect_right(self._positions, last)]):
            conversation.appended(appended_ms)
            if number not in self._runs or self._whole_at.get(number, last + 1) <= last:
                conversation.apply(event)  # of a run that is for nothing, the first piece begins its item
                continue
            start, end = self._runs[number]
            pieces = self._pieces[start:end]
            for payload in _joined(pieces["payload"].head(_until(pieces["position"], last)).to_list()):
                conversation.apply(structs.replace(event, payload=payload))
        seen = _until(self._times["position"], last)
        if seen:
            conversation.appended(self._appended_ms[_until(self._appends, last)])
            conversation.advance(*self._times.row(seen - 1))
        return conversation.state()


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows if rows["position"].is_sorted() else rows.sort("position")


def _until(positions: pl.Series, last: int) -> int:
    """How many there are up to the last."""
    return int(positions.search_sorted(last, side="right"))


def _kinds(rows: pl.DataFrame) -> dict[str, list[str]]:
    """The wire names that each sender used."""
    senders = rows["direction"].unique().to_list()
    return {who: rows["type"].filter(rows["direction"] == who).unique().drop_nulls().to_list() for who in senders}


def _is_of(who: str, names: Iterable[str]) -> pl.Expr:
    return (pl.col("direction") == who) & pl.col("type").is_in(list(names)).fill_null(value=False)


def _events(rows: pl.DataFrame) -> Iterator[tuple[RecordedEvent, float]]:
    """Rows of `_COLUMNS` as events, each with the total of what had been appended."""
    blind = [name for name in rows["type"].unique().drop_nulls() if canonical(name) in BLIND]
    read = pl.when(~pl.col("type").is_in(blind)).then("payload")  # what is not read need not become a string
    shown = rows.with_columns(payload=read).select(_COLUMNS)
    position, direction, *rest = (column.to_list() for column in shown)
    events = map(RecordedEvent, repeat(""), position, direction, repeat(None), *rest)
    return zip(events, rows[_APPENDED].to_list(), strict=True)


def _superseded(others: pl.DataFrame, firsts: pl.DataFrame, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The runs of pieces that are for nothing from a position on, at which an event has their text whole.

    Args:
        others: what is no piece.
        firsts: the first piece of each run.
        numbers: the runs.
    """
    streams = {name: _stream(name) for name in [*others["type"].unique().drop_nulls(), *firsts["type"].unique()]}
    wholes = others.filter(_is_of("server", [name for name, stream in streams.items() if stream]))
    whole_at: dict[tuple[str, int, str], list[int]] = {}
    for name, item_id, index, payload, position in wholes.select(_WHOLE).iter_rows():
        if _is_whole(name) and json.text(json.read(payload), TEXT_FIELDS[streams[name]]) is not None:
            whole_at.setdefault((item_id, index, streams[name]), []).append(position)
    for number, (name, item_id, index, position) in zip(numbers, firsts.select(_WHOSE).iter_rows(), strict=True):
        later = whole_at.get((item_id, index, streams[name]), [])
        following = bisect_right(later, position)
        if None not in (item_id, index) and following < len(later):
            yield number, later[following]


def _stream(name: str) -> str:
    """The stream of text that events of this wire name belong to; "" for none."""
    stream = canonical(name).rpartition(".")[0]
    return stream if stream in TEXT_FIELDS else ""


def _is_whole(name: str) -> bool:
    return canonical(name).rpartition(".")[2] in _WHOLE_PHASES


def _is_piece(name: str) -> bool:
    return bool(_stream(name)) and canonical(name).endswith(".delta")


def _joined(payloads: list[str | None]) -> Iterator[str | None]:
    """Pieces of one text as one, where all say the same of where they belong; else as they are."""
    if len(payloads) == 1:
        yield payloads[0]
        return
    try:  # at once is quicker than one by one; what has a `type` is an object by itself
        pieces = _pieces(f"[{','.join(payload or '' for payload in payloads)}]")
        text = "".join([one.delta for one in pieces])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        pieces, text = [], ""
    if len(pieces) == len(payloads) and len({repr(one.content_index) for one in pieces}) == 1:
        yield msgspec.json.encode({**json.read(payloads[0]), "delta": text}).decode()
    else:
        yield from payloads
