"""The conversation of a stored session at any position, fast enough to drag a slider along a call.

Seven of eight events are audio appends. All that the fold takes from them is how long they are, so each run of appends
between two other events is taken in as one; what else changes nothing is left out before it becomes an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import polars as pl

from recorder.projection.conversation import Conversation, heeds
from recorder.projection.fold_content import BLIND
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


def conversation_at(catalog: Catalog, session_id: str, at: int | None = None) -> ConversationState:
    """A session's conversation right after a position.

    Args:
        catalog: the store.
        session_id: the whole id.
        at: the last position to take in; None for all there are.

    Raises:
        SessionNotFoundError: there is no such session.
    """
    return fold_rows(catalog.events(session_id, limit=None if at is None else at + 1, columns=_COLUMNS))


def fold_rows(rows: pl.DataFrame) -> ConversationState:
    """The state right after the last of a session's rows.

    Args:
        rows: of `recorder.store.schema.EVENTS`, from the first on, by position.
    """
    conversation = Conversation()
    for event in _heeded(rows):
        conversation.apply(event)
    if rows.height:
        conversation.advance(rows["position"][-1], rows["monotonic_ns"].max())  # type: ignore[arg-type]  # of int64
    return conversation.state()


def _heeded(rows: pl.DataFrame) -> Iterator[RecordedEvent]:
    """The events that matter, runs of appends as one."""
    is_append = pl.col("type").is_in(_APPENDS).fill_null(value=False) & (pl.col("direction") == "client")
    numbered = rows.select(*_COLUMNS, is_append=is_append)
    others = numbered.filter(~pl.col("is_append"))
    kinds = [kind for kind in others.select(_WHO).unique().rows() if heeds(*kind)]
    told = pl.DataFrame(kinds, schema=dict.fromkeys(_WHO, pl.String), orient="row")
    runs = (
        numbered.select("position", "monotonic_ns", "audio_ms", "is_append", run=(~pl.col("is_append")).cum_sum())
        .filter("is_append")
        .group_by("run")
        .agg(pl.col("position").max(), pl.col("monotonic_ns").max(), pl.col("audio_ms").sum())
        .with_columns(direction=pl.lit("client"), type=pl.lit(_APPENDS[0]))
        .drop("run")
    )
    heeded = others.join(told, on=_WHO, how="semi").drop("is_append")
    blind = pl.col("type").is_in([name for _, name in kinds if canonical(name) in BLIND])
    heeded = heeded.with_columns(payload=pl.when(~blind).then("payload"))  # what is not read need not be a string
    for row in pl.concat([heeded, runs], how="diagonal").sort("position").rows():
        yield RecordedEvent("", row[0], row[1], None, *row[2:])
