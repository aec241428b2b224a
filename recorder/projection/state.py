"""The state a conversation is in: plain values, ready for JSON."""

from __future__ import annotations

from typing import Any, Final

import msgspec


class ContentPart(msgspec.Struct):
    """One part of an item's content.

    Attributes:
        type: as on the wire (`input_text`, `input_audio`, `output_audio`, `input_image` …).
        text: what is written, so far.
        transcript: what is spoken, so far.
        audio_ms: audio received so far; None for a part without.
    """

    type: str = ""
    text: str = ""
    transcript: str = ""
    audio_ms: float | None = None


class Item(msgspec.Struct):
    """One item of the conversation.

    Attributes:
        id: the server's or client's id; None until the server has named an item that the client sent without.
        type: `message`, `function_call`, `function_call_output`, `mcp_call` …
        role: `user`, `assistant`, `system`; None for items that are no messages.
        status: `in_progress`, `completed`, `incomplete`; None where never said.
        position: of the event that made the item. Evidence.
        at_ns: its monotonic time; None where unknown.
        response_id: of the response that made it.
        content: its parts, by content index.
        name: of the function or tool called.
        call_id: joins a call and its output.
        arguments: of a call, so far, as sent (may be no valid JSON).
        output: of a call, as sent.
        audio_ms: audio of the item, so far: spoken by the user, or generated; None without audio.
        audio_end_ms: where the server truncated it.
        heard_ms: generated audio that the user has heard; None without audio or times.
        heard_estimated: whether `heard_ms` comes from the playback model and not from a truncation.
        truncated: the server has cut it to what was heard.
        interrupted: truncated, or cut off while it played without the model being told.
        deleted: it has left the conversation. Deleted items keep their place, so that a viewer can show them.
        confirmed: False while only the client has spoken of it.
        out_of_band: made by a response outside the conversation (`conversation: none`).
    """

    id: str | None
    type: str
    role: str | None
    status: str | None
    position: int
    at_ns: int | None = None
    response_id: str | None = None
    content: list[ContentPart] = []
    name: str | None = None
    call_id: str | None = None
    arguments: str = ""
    output: str | None = None
    audio_ms: float | None = None
    audio_end_ms: float | None = None
    heard_ms: float | None = None
    heard_estimated: bool = False
    truncated: bool = False
    interrupted: bool = False
    deleted: bool = False
    confirmed: bool = True
    out_of_band: bool = False

    @property
    def text(self) -> str:
        """All that is written or spoken in the item, so far."""
        return " ".join(part.text or part.transcript for part in self.content if part.text or part.transcript)


class ActiveResponse(msgspec.Struct):
    """A response that was created and is not done.

    Attributes:
        id: the response's id; None where the server gave none.
        position: of its `response.created`.
        at_ns: its monotonic time; None where unknown.
        out_of_band: whether it stands outside the conversation.
    """

    id: str | None
    position: int
    at_ns: int | None
    out_of_band: bool


class PendingToolCall(msgspec.Struct):
    """A function call that nobody has answered yet.

    Attributes:
        call_id: what the answer must name.
        item_id: the call's item.
        name: the function.
        arguments: so far, as sent.
        complete: whether the arguments are all there, so that the client can answer.
        position: of the event that first named the call.
    """

    call_id: str | None
    item_id: str | None
    name: str | None
    arguments: str
    complete: bool
    position: int


class ConversationState(msgspec.Struct):
    """A conversation right after the event at `position`.

    Attributes:
        position: of the last event taken in; -1 before the first.
        at_ns: its monotonic time; None where unknown.
        session: the effective session configuration, as the server has confirmed it.
        items: the conversation in order, deleted items among them (flagged).
        out_of_band: items of responses outside the conversation, in order of appearance.
        active_responses: created and not done.
        pending_tool_calls: function calls without an output.
        uncommitted_audio_ms: input audio that waits in the server's buffer.
        closed: whether the session has ended.
    """

    position: int
    at_ns: int | None
    session: dict[str, Any]
    items: list[Item]
    out_of_band: list[Item]
    active_responses: list[ActiveResponse]
    pending_tool_calls: list[PendingToolCall]
    uncommitted_audio_ms: float
    closed: bool


_LONGEST_WORD: Final = 30


def split_heard(item: Item) -> tuple[str, str]:
    """Part an item's text into what was heard and what was not.

    The cut is pro rata by characters, moved to the end of the word: an estimate, since the wire does not say which word
    belongs to which millisecond. Not all scripts have spaces: where the text has none, or none for 30 characters, it is
    cut where it is. An item that was not interrupted counts as heard.

    Returns:
        The heard text and the unheard rest; both together are `item.text`.
    """
    text = item.text
    if not item.interrupted or not item.audio_ms or item.heard_ms is None or item.heard_ms >= item.audio_ms:
        return text, ""
    cut = round(len(text) * item.heard_ms / item.audio_ms)
    end = cut
    while 0 < end < len(text) and not text[end].isspace():
        end += 1
    if end - cut <= _LONGEST_WORD and len(text.split(maxsplit=1)) > 1:
        cut = end
    return text[:cut], text[cut:]
