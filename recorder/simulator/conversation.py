"""The server's conversation: items in order, what is said in them, and what they weigh in tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from recorder.simulator.refusal import EventRefusedError

_CHARACTERS_PER_TOKEN = 4
_USER_MS_PER_TOKEN = 100
_ASSISTANT_MS_PER_TOKEN = 50
_TOKENS_PER_IMAGE = 255
_KEPT_AUDIO_BYTES = 4_000_000


@dataclass(frozen=True)
class Tokens:
    """A count of tokens, split by modality."""

    text: int = 0
    audio: int = 0
    image: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio, self.image + other.image)

    @property
    def total(self) -> int:
        """All of them."""
        return self.text + self.audio + self.image


def text_tokens(text: str) -> int:
    """Tokens of a text: one for four characters, rounded up."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def audio_tokens(audio_ms: float, role: str) -> int:
    """Tokens of audio: one for 100 ms of a user's, one for 50 ms of the assistant's, rounded up."""
    return math.ceil(audio_ms / (_ASSISTANT_MS_PER_TOKEN if role == "assistant" else _USER_MS_PER_TOKEN))


@dataclass
class Item:
    """A conversation item: `wire` as clients see it, and what is behind it.

    `said` keeps the words of an item whose transcript a truncate took away.
    """

    wire: dict[str, Any]
    said: str = ""
    audio_ms: float = 0.0
    audio: bytes = b""
    truncated_ms: int | None = None

    @property
    def id(self) -> str:
        """Its `item_…` id, or the client's own."""
        return str(self.wire["id"])

    @property
    def role(self) -> str | None:
        """Its message role; None for tool items."""
        role = self.wire.get("role")
        return role if isinstance(role, str) else None

    @property
    def text(self) -> str:
        """What is said in it: texts and transcripts, or a tool's arguments or output."""
        parts = [part.get("text") or part.get("transcript") or "" for part in self.wire.get("content") or []]
        return "".join(parts) or str(self.wire.get("arguments") or self.wire.get("output") or "")

    @property
    def tokens(self) -> Tokens:
        """What it weighs in a prompt: a user's audio counts as audio alone, the assistant's as audio and text."""
        role = self.role or ""
        spoken = role == "user" and self.audio_ms > 0
        heard_ms = self.audio_ms if self.truncated_ms is None else self.truncated_ms
        images = sum(part.get("type") == "input_image" for part in self.wire.get("content") or [])
        text = 0 if spoken else text_tokens(self.text)
        return Tokens(text, audio_tokens(heard_ms, role), images * _TOKENS_PER_IMAGE)


@dataclass
class Conversation:
    """Items in conversation order.

    Audio is kept for `conversation.item.retrieve`, the newest few megabytes of it, so that long load runs stay small.
    """

    items: list[Item] = field(default_factory=list)
    deleted: list[Item] = field(default_factory=list)

    def find(self, item_id: Any) -> Item | None:
        """The item of that id."""
        return next((item for item in self.items if item.id == item_id), None)

    def get(self, item_id: Any, doing: str) -> Item:
        """The item of that id.

        Raises:
            EventRefusedError: there is none; `doing` (retrieve, delete, truncate) names the code.
        """
        item = self.find(item_id)
        if item is None:
            message = f"Error with item {doing}: the item with id '{item_id}' does not exist."
            raise EventRefusedError(f"item_{doing}_invalid_item_id", message, param="item_id")
        return item

    @property
    def last_id(self) -> str | None:
        """The id of the last item."""
        return self.items[-1].id if self.items else None

    def before(self, item: Item) -> str | None:
        """The id of the item before `item`."""
        index = self.items.index(item)
        return self.items[index - 1].id if index else None

    def insert(self, item: Item, previous_item_id: str | None) -> None:
        """Add an item: at the end (None), at the start (`root`), or after another one.

        Raises:
            EventRefusedError: the id is taken, or the other one does not exist.
        """
        if self.find(item.id) is not None:
            message = f"Error adding item: an item with id '{item.id}' already exists in the conversation."
            raise EventRefusedError("item_create_duplicate_item_id", message, param="item.id")
        if previous_item_id is None:
            self.items.append(item)
        elif previous_item_id == "root":
            self.items.insert(0, item)
        else:
            previous = self.find(previous_item_id)
            if previous is None:
                message = f"Error adding item: the previous item with id '{previous_item_id}' does not exist."
                raise EventRefusedError("item_create_invalid_previous_item_id", message, param="previous_item_id")
            self.items.insert(self.items.index(previous) + 1, item)

    def delete(self, item_id: Any) -> Item:
        """Take an item out.

        Raises:
            EventRefusedError: there is none.
        """
        item = self.get(item_id, "delete")
        self.items.remove(item)
        self.deleted.append(item)
        return item

    def truncate(self, item_id: Any, audio_end_ms: Any) -> Item:
        """Cut an assistant's audio item; its transcript goes.

        Raises:
            EventRefusedError: no such item, not an assistant's audio, or the cut is beyond its audio.
        """
        item = self.get(item_id, "truncate")
        if item.role != "assistant" or not item.audio_ms:
            message = "Only model output audio messages can be truncated."
            raise EventRefusedError("invalid_value", message, param="item_id")
        if not isinstance(audio_end_ms, int) or audio_end_ms < 0:
            raise EventRefusedError("invalid_type", "Invalid 'audio_end_ms'.", param="audio_end_ms")
        left_ms = item.audio_ms if item.truncated_ms is None else item.truncated_ms
        if audio_end_ms > left_ms:
            message = f"Audio content of {round(left_ms)}ms is already shorter than {audio_end_ms}ms"
            raise EventRefusedError("invalid_value", message, param="audio_end_ms")
        item.truncated_ms = audio_end_ms
        item.said = item.said or item.text
        for part in item.wire["content"]:
            part.pop("transcript", None)
        return item

    def keep_audio(self, item: Item, audio: bytes) -> None:
        """Keep an item's wire audio, and forget the oldest beyond the ceiling."""
        item.audio = audio
        kept = 0
        for other in reversed(self.items):
            kept += len(other.audio)
            if kept > _KEPT_AUDIO_BYTES:
                other.audio = b""
