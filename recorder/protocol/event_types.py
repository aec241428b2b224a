"""The vocabulary: every event name that is known, with who sends it, what it is about, its fields, and its GA name.

Data, not rules: a name that is not here is recorded, decoded and shown like any other, and listed as drift; so is a
field. The rows are in `vocabulary`; `docs/events.md` is made from them (`reference()`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from recorder.protocol.vocabulary import OBJECTS, ROWS

Sender = Literal["client", "server", "both", "recorder"]
Dialect = Literal["ga", "beta", "translation", "live", "voice_live", "xai", "websocket", "recorder"]

ID_FIELDS: Final = (
    "event_id",
    "response_id",
    "item_id",
    "call_id",
    "previous_item_id",
    "output_index",
    "content_index",
)
"""What an event says of itself that is a column of `events`."""


class EventType(msgspec.Struct, frozen=True):
    """One row of the vocabulary.

    Attributes:
        name: the wire's `type`.
        direction: who sends it.
        family: what it is about; groups of one colour in charts.
        canonical: the GA name of the same thing; the name itself where GA has no other.
        dialect: where the name comes from.
        description: what it means, one sentence.
        fields: what it always carries at the top level, beside `type`.
        optional: what it may carry there.
    """

    name: str
    direction: Sender
    family: str
    canonical: str
    dialect: Dialect
    description: str
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The columns of `events` that it fills: of `ID_FIELDS`, and from the id of its `item` or `response`."""
        carried = {"event_id", *self.fields, *self.optional}
        if "item" in carried:
            carried |= {"item_id", "call_id"}
        if "response" in carried and self.direction == "server":
            carried.add("response_id")
        return tuple(name for name in ID_FIELDS if name in carried and self.is_on_the_wire)

    @property
    def is_on_the_wire(self) -> bool:
        """Whether it is a message, and no control frame or record of our own."""
        return self.dialect not in ("websocket", "recorder")

    def paths(self) -> Iterator[str]:
        """Every field that is known of it: those at the top level, and `item.id` … of the objects that it carries."""
        for name in ("type", "event_id", *self.fields, *self.optional):
            yield name
            yield from (f"{name}.{inner}" for inner in OBJECT_FIELDS.get(name, ()))


_BETA_NAMES: Final = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}


def canonical(name: str) -> str:
    """The GA name of an event type; an unknown name is its own."""
    return _BETA_NAMES.get(name, name)


def _read_objects() -> dict[str, tuple[str, ...]]:
    blocks: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in OBJECTS.strip().splitlines():
        if line.startswith(" "):
            blocks[name] += tuple(line.split())
        else:
            name = line
            blocks[name] = ()
    return blocks


OBJECT_FIELDS: Final = _read_objects()
"""The known fields of `item`, `response`, `session` and `error`, wherever they stand."""


def _read_rows() -> tuple[EventType, ...]:
    rows: list[EventType] = []
    head: list[str] = []
    for line in ROWS.strip().splitlines():
        text = line.lstrip()
        match len(line) - len(text):
            case 0:
                head = text.split()
            case 4:
                name, description = text.split(": ", 1)
                row = dict(zip(("dialect", "direction", "family"), head, strict=True))
                row |= {"name": name, "canonical": canonical(name), "description": description}
                rows.append(msgspec.convert(row, EventType))
            case _:
                rows[-1] = _with_fields(rows[-1], text.split())
    return tuple(rows)


def _with_fields(row: EventType, names: list[str]) -> EventType:
    return msgspec.structs.replace(
        row,
        fields=(*row.fields, *(name for name in names if not name.endswith("?"))),
        optional=(*row.optional, *(name.removesuffix("?") for name in names if name.endswith("?"))),
    )


VOCABULARY: Final[tuple[EventType, ...]] = _read_rows()
_BY_NAME: Final = {event_type.name: event_type for event_type in VOCABULARY}


def is_known(name: str | None) -> bool:
    """Whether the vocabulary has this name."""
    return name in _BY_NAME


def is_drift(name: str | None, direction: str, opcode: int | None = None) -> bool:
    """Whether a message is of a type that the vocabulary does not have. One without a type is none.

    Args:
        name: the wire's `type`.
        direction: who sent it; the recorder's own events are none.
        opcode: of its frame, where known; control frames are none. A message that takes the name of one, or of an event
            of the recorder's, is as unknown as any.
    """
    if name is None or direction == "recorder" or (opcode or 0) >= 8:
        return False
    row = _BY_NAME.get(name)
    return row is None or not row.is_on_the_wire


def lookup(name: str) -> EventType | None:
    """The row of a name; None for an unknown one."""
    return _BY_NAME.get(name)


_PAGE: Final = """# Events

Every event name that the recorder knows. Others are recorded all the same, and `recorder drift` lists them, with fields
that are not listed here. Models use the canonical name; the stored `type` is always what was sent. A `?` marks what may
be missing. *ids* are what fills the columns of `events`; those of an `item` or `response` are read from inside it.
"""


def reference() -> str:
    """The vocabulary as a Markdown page, one table a family, in the order of the vocabulary."""
    lines = [_PAGE]
    for family in dict.fromkeys(event_type.family for event_type in VOCABULARY):
        lines += [f"## {family}", "", "| name | sent by | dialect | meaning | ids | other fields | canonical name |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_line(row) for row in VOCABULARY if row.family == family]
        lines.append("")
    lines += ["## Objects", "", "What is known of the objects that events carry, in any dialect.", ""]
    lines += ["| object | fields |", "|---|---|"]
    lines += [f"| `{name}` | {' '.join(f'`{field}`' for field in fields)} |" for name, fields in OBJECT_FIELDS.items()]
    return "\n".join(lines) + "\n"


def _line(row: EventType) -> str:
    ids = [f"`{name}`" + ("" if name in row.fields else "?") for name in row.ids]
    others = [f"`{name}`" for name in row.fields if name not in ID_FIELDS]
    others += [f"`{name}`?" for name in row.optional if name not in ID_FIELDS]
    other = f"`{row.canonical}`" if row.canonical != row.name else ""
    cells = [f"`{row.name}`", row.direction, row.dialect, row.description, " ".join(ids), " ".join(others), other]
    return f"| {' | '.join(cells)} |"
