"""The conversation of a stored session at any position, fast enough to drag a slider along a call.

Seven of eight events are audio appends. All that the fold takes from them is how long they are: so they become a
running total beside the other events, and what changes nothing is left out before it becomes an object. Text that comes
word by word is taken in by the run, and left out where it comes as a whole later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from recorder.projection import payload as json
from recorder.projection.conversation import Conversation, heeds
from recorder.projection.fold_content import BLIND, TEXT_FIELDS
from recorder.projection.state import ConversationState
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog

_APPENDS: Final = ("input_audio_buffer.append", "session.input_audio_buffer.append")
_WHO: Final = ("direction", "type")
_COLUMNS: Final = (
    "position", "direction", "monotonic_ns", "type", "event_id", "response_id", "item_id", "call_id",
    "previous_item_id", "output_index", "content_index", "payload", "audio_ms",
)  # fmt: skip
"""The fields of a `RecordedEvent` in their order, the session and the wall time aside: all that the fold reads."""
_PLACE: Final = ("direction", "type", "response_id", "item_id", "content_index")
_WHOLE: Final = ("type", "item_id", "content_index", "payload", "position")
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
    appends = rows.filter(is_append.to_series()).select("position", "audio_ms").sort("position")
    others = rows.filter(~is_append.to_series()).select(_COLUMNS).sort("position")
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


def _heeded(rows: pl.DataFrame) -> Iterator[tuple[RecordedEvent, float]]:
    """The events that matter, and how much audio had been appended by then."""
    kinds = [kind for kind in rows.select(_WHO).unique().rows() if heeds(*kind)]
    told = pl.DataFrame(kinds, schema=dict.fromkeys(_WHO, pl.String), orient="row")
    heeded = rows.join(told, on=_WHO, how="semi", maintain_order="left")
    blind = pl.col("type").is_in([name for _, name in kinds if canonical(name) in BLIND])
    heeded = heeded.with_columns(payload=pl.when(~blind).then("payload"))  # what is not read need not be a string
    pieces = [name for who, name in kinds if who == "server" and _is_piece(name)]
    is_piece = heeded["type"].is_in(pieces) & (heeded["direction"] == "server")
    if is_piece.sum() < _MANY_PIECES:
        yield from map(_event, *(heeded[name].to_list() for name in heeded.columns))  # quicker than rows
        return
    place = pl.struct(_PLACE)
    starts = ~is_piece | (place != place.shift(1)).fill_null(value=True)
    told = heeded.with_columns(run=starts.cum_sum()).filter(starts | ~_is_superseded(heeded, is_piece))
    columns = [pl.col(name) if name == "payload" else pl.col(name).first() for name in heeded.columns]
    joined = told.group_by("run", maintain_order=True).agg(columns)
    for payloads, *row in zip(*(joined[name].to_list() for name in ("payload", *heeded.columns)), strict=True):
        for payload in _joined(payloads):
            row[_COLUMNS.index("payload")] = payload
            yield _event(*row)


def _is_superseded(rows: pl.DataFrame, is_piece: pl.Series) -> pl.Series:
    """Which pieces of a text were for nothing, since a later event has it whole. A run's first begins its item."""
    kinds = {name: canonical(name).rpartition(".") for name in rows["type"].unique().drop_nulls()}
    streams = {name: stream for name, (stream, _, _) in kinds.items() if stream in TEXT_FIELDS}
    of_text = rows.select("position", "item_id", "content_index", stream=_looked_up("type", streams))
    wholes = rows.filter((pl.col("direction") == "server") & pl.col("type").is_in(list(streams)) & ~is_piece)
    whole_at = {
        (item_id, index, streams[name]): position
        for name, item_id, index, payload, position in wholes.select(_WHOLE).iter_rows()
        if kinds[name][2] in _WHOLE_PHASES and json.text(json.read(payload), TEXT_FIELDS[streams[name]]) is not None
    }
    last = pl.DataFrame(
        [(*place, position) for place, position in whole_at.items()],
        schema={
            "item_id": pl.String,
            "content_index": of_text.schema["content_index"],
            "stream": pl.String,
            "last": pl.Int64,
        },
        orient="row",
    )
    found = of_text.join(last, on=["item_id", "content_index", "stream"], how="left", maintain_order="left")
    return is_piece & (found["position"] < found["last"]).fill_null(value=False)


def _looked_up(column: str, found: dict[str, str]) -> pl.Expr:
    return pl.col(column).replace_strict(found, default=None, return_dtype=pl.String)


def _event(*row: Any) -> tuple[RecordedEvent, float]:
    """A row of `_COLUMNS`, with the total of what had been appended."""
    return RecordedEvent("", row[0], row[1], None, *row[2:-1]), row[-1]


def _is_piece(name: str) -> bool:
    stream, _, phase = canonical(name).rpartition(".")
    return phase == "delta" and stream in TEXT_FIELDS


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
