"""The page docs/metrics.md, made from what the models say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from recorder.analytics.registry import Model, shown_models

_PREFACE: Final = """\
# Metrics

Every number has one definition, in one SQL model (`recorder/analytics/sql/<table>/`). The tables below are what
`recorder query` and the HTTP API show beside `events`, `parts`, `audio`, `event_types`, `prices` and `drift` (events
and fields that the vocabulary does not know); a running session is in them too, its rows provisional until it closes.
This page is made from the models' descriptions.

**Times** are taken where the recorder stands: when the last byte of a message was read from its socket. `*_at_ns` count
nanoseconds since the session opened, on a clock that never steps; durations come from them alone, never from UTC time.
Recordings without times have positions only, and NULL for every duration.

**NULL** means that a number cannot be had; it is never 0 instead. Percentiles come with `n`, the number of values:
medians from 1 on, 95th from 20, 99th from 100, NULL below; between two values they are interpolated.

**Formulas** stand in the columns' meanings: *a → b* is the time from the one event to the other, read on that clock;
÷, ×, − and + are what they are elsewhere, with columns' names as operands.

**Evidence**: `*_position` columns name the events that a number was made from. Session and position are the address of
an event everywhere.

**Names** on the wire differ by dialect. Models read the canonical (GA) ones: `response.audio.delta` counts as
`response.output_audio.delta`. Unknown names are kept and counted.

**The playback model.** Nobody on the wire sees the loudspeaker. Where a client does not tell what was heard, it is
reckoned as if the client played each response from its first audio delta on, in real time, waiting whenever its buffer
is empty, and stopped at once when the user cut in. Responses that overlap play side by side, each on its own; what cuts
in stops the one of the conversation that was the last to begin. `output_audio_buffer.*` events replace the model where
a connection shows them.

**What cannot be** is not believed, so that no sum is spoilt by it: token counts below 0 or above a hundred million,
marks in the audio below 0 or beyond a day, times that run backwards. Such a number is NULL.

**Out-of-band responses** (`conversation: none`) have rows like any other, marked `out_of_band`, and are left out of
turns, latency figures and interruption counts. Their tokens are billed, so the token sums include them.
"""


def reference() -> str:
    """The text of docs/metrics.md."""
    models = sorted(shown_models().values(), key=lambda model: model.name)
    links = "\n".join(f"- [`{model.name}`](#{model.name}): one row is {model.grain}" for model in models)
    return "\n".join([_PREFACE, links, *(line for model in models for line in _section(model))]) + "\n"


def _section(model: Model) -> Iterator[str]:
    yield f"\n## {model.name}\n\n{model.description.strip()}\n"
    yield from _table(model)
    if model.caveats:
        yield f"\n**Mind:** {model.caveats.strip()}"
    yield f"\n```sql\n{model.example.strip()}\n```"


def _table(model: Model) -> Iterable[str]:
    yield "| column | type | unit | meaning |\n|---|---|---|---|"
    for column in model.shown_columns:
        name = f"**`{column.name}`**" if column.name in model.key else f"`{column.name}`"
        yield f"| {name} | {column.type} | {column.unit} | {column.description.strip()} |"
