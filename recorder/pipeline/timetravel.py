"""The conversation of a stored session at any position, fast enough to drag a slider along a call.

Seven of eight events are audio appends. All that the fold takes from them is how long they are: so they become a
running total beside the other events, and what changes nothing is left out before it becomes an object. Text that comes
word by word is taken in by the run, and left out where it comes as a whole later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl
from msgspec import structs

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


class _Piece(msgspec.Struct):
    delta: Any = None
    content_index: Any = None


_pieces: Final = msgspec.json.Decoder(list[_Piece]).decode


def conversation_at(catalog: Catalog, session_id: str, at: int | None = None) -> ConversationState:
    """A session's conversation right after a position.

    Args:
        catalog: the store.
        session_id: the whole id.
        at: the last position to take in; None for all there are.

    Raises:
        SessionNotFoundError: there is no such session.
    """
    rows = catalog.events(session_id, columns=_COLUMNS)  # whole files are read faster than parts of them
    return fold_rows(rows if at is None else rows.filter(pl.col("position") <= at))


def fold_rows(rows: pl.DataFrame) -> ConversationState:
    """The state right after the last of a session's rows.

    Args:
        rows: of `recorder.store.schema.EVENTS`, all up to a position, in any order.
    """
    is_append = rows.select(pl.col("type").is_in(_APPENDS).fill_null(value=False) & (pl.col("direction") == "client"))
    appends = _in_order(rows.select("position", "audio_ms").filter(is_append.to_series()))
    others = _in_order(rows.select(_COLUMNS).filter(~is_append.to_series()))
    totals = pl.concat([pl.Series([0.0]), appends["audio_ms"].fill_null(0.0).cum_sum()])
    before = totals.gather(appends["position"].search_sorted(others["position"]))
    conversation = Conversation()
    for event, appended_ms in _heeded(others.with_columns(before.alias(_APPENDED))):
        conversation.appended(appended_ms)
        conversation.apply(event)
    if rows.height:
        conversation.appended(totals[-1])
        latest = rows.select(pl.col("position", "monotonic_ns").max()).row(0)
        conversation.advance(*latest)
    return conversation.state()


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows if rows["position"].is_sorted() else rows.sort("position")


def _heeded(rows: pl.DataFrame) -> Iterator[tuple[RecordedEvent, float]]:
    """The events that matter, and how much audio had been appended by then."""
    kinds = {who: [name for name in names if heeds(who, name)] for who, names in _kinds(rows).items()}
    heeded = pl.any_horizontal(False, *(_is_of(who, names) for who, names in kinds.items()))
    marks = rows.select(heeded=heeded, is_piece=_is_of("server", filter(_is_piece, kinds.get("server", ()))))
    rows, is_piece = rows.filter(marks["heeded"]), marks["is_piece"].filter(marks["heeded"])
    if is_piece.sum() < _MANY_PIECES:
        yield from _events(rows)
        return
    place = pl.struct(_PLACE)
    starts = rows.select(~is_piece | (place != place.shift(1)).fill_null(value=True)).to_series().arg_true()
    runs = {
        number: (start, end)
        for number, (start, end) in enumerate(pairwise([*starts.to_list(), rows.height]))
        if end - start > 1
    }
    for number in _superseded(rows.filter(~is_piece), rows[[start for start, _ in runs.values()]], runs):
        del runs[number]  # of a run, the first piece begins its item
    for number, told in enumerate(_events(rows[starts])):
        if number not in runs:
            yield told
            continue
        start, end = runs[number]
        for payload in _joined(rows["payload"][start:end].to_list()):
            yield structs.replace(told[0], payload=payload), told[1]


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


def _superseded(others: pl.DataFrame, firsts: pl.DataFrame, numbers: Iterable[int]) -> list[int]:
    """The runs of pieces that were for nothing, since a later event has their text whole.

    Args:
        others: what is no piece.
        firsts: the first piece of each run.
        numbers: the runs.
    """
    streams = {name: _stream(name) for name in [*others["type"].unique().drop_nulls(), *firsts["type"].unique()]}
    wholes = others.filter(_is_of("server", [name for name, stream in streams.items() if stream]))
    whole_at = {
        (item_id, index, streams[name]): position
        for name, item_id, index, payload, position in wholes.select(_WHOLE).iter_rows()
        if _is_whole(name) and json.text(json.read(payload), TEXT_FIELDS[streams[name]]) is not None
    }
    return [
        number
        for number, (name, item_id, index, position) in zip(numbers, firsts.select(_WHOSE).iter_rows(), strict=True)
        if None not in (item_id, index) and position < whole_at.get((item_id, index, streams[name]), -1)
    ]


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
