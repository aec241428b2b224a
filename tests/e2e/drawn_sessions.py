"""Sessions as hypothesis draws them: what a server that keeps to the protocol may say, in any order of happenings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Literal

from hypothesis import strategies as st

Line = tuple[Literal["client", "server"], dict[str, Any], int]
"""Sender, message, milliseconds since the session opened."""

_STEPS = ("speak", "type", "answer", "answer", "call", "interrupt", "truncate", "delete", "aside", "wait")


class Drawn:
    """Writes a session down. `choose(n)` gives a number below n."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.lines: list[Line] = []
        self.now = 10
        self.choose = choose
        self._numbers = iter(range(1, 10_000))
        self.beta = self.choose(4) == 0
        self.orders = self.choose(4) > 0
        self.order: list[str] = []
        self.spoken: list[str] = []

    def name(self, prefix: str) -> str:
        """An id that is new."""
        return f"{prefix}{next(self._numbers)}"

    def server(self, kind: str, **fields: Any) -> None:
        """The server says something, a little later."""
        self.now += self.choose(30)
        self.lines.append(("server", {"type": kind, **fields}, self.now))

    def client(self, kind: str, **fields: Any) -> None:
        """The client says something, a little later."""
        self.now += self.choose(30)
        self.lines.append(("client", {"type": kind, **fields}, self.now))

    def place(self, item: dict[str, Any], place: int | None = None) -> None:
        """The server puts an item into the conversation."""
        place = len(self.order) if place is None else place
        before = {"previous_item_id": self.order[place - 1] if place else None} if self.orders else {}
        self.order.insert(place, item["id"])
        self.server("conversation.item.created" if self.beta else "conversation.item.added", **before, item=item)

    # What may happen

    def speak(self) -> None:
        """Speech, found by VAD; it may meet an answer."""
        item_id = self.name("u")
        self.server("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=0)
        self.server("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=300)
        before = {"previous_item_id": self.order[-1] if self.order else None} if self.orders else {}
        self.server("input_audio_buffer.committed", item_id=item_id, **before)
        content = [{"type": "input_audio", "transcript": None}]
        self.place({"id": item_id, "type": "message", "role": "user", "status": "completed", "content": content})
        stream = "conversation.item.input_audio_transcription"
        where = {"item_id": item_id, "content_index": 0}
        self.server(f"{stream}.delta", **where, delta="Good")
        if self.choose(2):
            self.server(f"{stream}.completed", **where, transcript="Good day.")

    def type(self) -> None:
        """The client writes: at the end, first, or behind an item; the server may refuse it, or never say a word."""
        item_id, place = self.name("t"), self.choose(len(self.order) + 1) if self.orders else len(self.order)
        before = {"previous_item_id": self.order[place - 1] if place else "root"} if place < len(self.order) else {}
        item = {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}
        event_id, fate = self.name("e"), self.choose(8)
        sent = item if fate > 1 or before else {key: value for key, value in item.items() if key != "id"}
        self.client("conversation.item.create", event_id=event_id, **before, item=sent)
        if fate == 2:
            self.server("error", error={"code": "item_exists", "event_id": event_id})
        elif fate != 3 or place < len(self.order):
            self.place({**item, "status": "completed"}, place)

    def answer(self, *, outside: bool = False) -> None:
        """A spoken answer, which may break off anywhere."""
        response_id, item_id = self.name("r"), self.name("a")
        where = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
        self.client("response.create", response={"conversation": "none"} if outside else {})
        conversation = None if outside else "conv_1"
        self.server("response.created", response={"id": response_id, "conversation_id": conversation})
        item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self.server("response.output_item.added", response_id=response_id, output_index=0, item=item)
        if not outside:
            self.place(item)
            self.spoken.append(item_id)
        family = "response." if self.beta else "response.output_"
        transcript = ""
        if self.choose(6) == 0:
            self.sideband(response_id)
        for _ in range(self.choose(4)):
            self.server(f"{family}audio_transcript.delta", **where, delta="word ")
            self.server(f"{family}audio.delta", **where, delta="AAAA" * 16 * (20 + self.choose(400)))
            transcript += "word "
        status = ("completed", "cancelled", "incomplete", None)[self.choose(4)]
        if status is None:
            return
        self.server(f"{family}audio_transcript.done", **where, transcript=transcript)
        kind = "audio" if self.beta else "output_audio"
        done = {**item, "status": status, "content": [{"type": kind, "transcript": transcript}]}
        self.server("response.output_item.done", response_id=response_id, output_index=0, item=done)
        if self.choose(2) and not self.beta and not outside:
            self.server("conversation.item.done", item=done)
        self.server("response.done", response={"id": response_id, "status": status, "output": [done]})

    def sideband(self, response_id: str) -> None:
        """What a sideband sees of the playing: no audio, but when it began and ended."""
        self.server("output_audio_buffer.started", response_id=response_id)
        if self.choose(3):
            self.wait()
            self.server(f"output_audio_buffer.{('stopped', 'cleared')[self.choose(2)]}", response_id=response_id)

    def aside(self) -> None:
        """An answer outside the conversation."""
        self.answer(outside=True)

    def call(self) -> None:
        """A function is called, and answered or not."""
        response_id, item_id, call_id = self.name("r"), self.name("f"), self.name("c")
        where = {"response_id": response_id, "item_id": item_id, "call_id": call_id, "output_index": 0}
        self.client("response.create")
        self.server("response.created", response={"id": response_id, "conversation_id": "conv_1"})
        item = {"id": item_id, "type": "function_call", "status": "in_progress", "name": "f", "call_id": call_id}
        self.server(
            "response.output_item.added", response_id=response_id, output_index=0, item={**item, "arguments": ""}
        )
        self.place({**item, "arguments": ""})
        self.server("response.function_call_arguments.delta", **where, delta='{"a":')
        if self.choose(5):
            self.server("response.function_call_arguments.done", **where, arguments='{"a": 1}')
            done = {**item, "status": "completed", "arguments": '{"a": 1}'}
            self.server("response.output_item.done", response_id=response_id, output_index=0, item=done)
            self.server("response.done", response={"id": response_id, "status": "completed", "output": [done]})
        if self.choose(3):
            output = {"id": self.name("o"), "type": "function_call_output", "call_id": call_id, "output": "rain"}
            self.client("conversation.item.create", item=output)
            self.place({**output, "status": "completed"})

    def interrupt(self) -> None:
        """The client stops what it plays."""
        self.client(("response.cancel", "output_audio_buffer.clear")[self.choose(2)])

    def truncate(self) -> None:
        """The client says what it has played; the server takes it, refuses it, or does not get to answer."""
        if self.spoken:
            item_id, event_id = self.spoken[self.choose(len(self.spoken))], self.name("e")
            where = {"item_id": item_id, "content_index": 0, "audio_end_ms": self.choose(1000)}
            self.client("conversation.item.truncate", event_id=event_id, **where)
            end = self.choose(3)
            if end == 1:
                self.server("conversation.item.truncated", **where)
            elif end:
                self.server("error", error={"code": "invalid_value", "event_id": event_id})

    def delete(self) -> None:
        """An item is taken out."""
        if self.order:
            item_id = self.order.pop(self.choose(len(self.order)))
            self.client("conversation.item.delete", item_id=item_id)
            self.server("conversation.item.deleted", item_id=item_id)
            self.spoken = [one for one in self.spoken if one != item_id]

    def wait(self) -> None:
        """Time passes."""
        self.now += self.choose(2000)


class Session(list[Line]):
    """A session's lines, shown by the numbers that `replayed` makes them of again: the lines hold much audio."""

    def __init__(self, lines: Iterable[Line], numbers: Sequence[int]) -> None:
        super().__init__(lines)
        self.numbers = numbers

    def __repr__(self) -> str:
        return f"replayed({', '.join(map(str, self.numbers))})"


def replayed(*numbers: int) -> Session:
    """The session that comes of these numbers, with zeros after them."""
    given = chain(numbers, repeat(0))
    return Session(session(lambda _: next(given)), numbers)


def session(choose: Callable[[int], int]) -> list[Line]:
    """A session's lines, by numbers that `choose` gives."""
    drawn = Drawn(choose)
    detection = {"type": "server_vad", "interrupt_response": choose(4) > 0}
    described = {"id": "sess_1", "model": "m", "audio": {"input": {"turn_detection": detection}}}
    drawn.server("session.created", session=described)
    for _ in range(1 + choose(8)):
        getattr(drawn, _STEPS[choose(len(_STEPS))])()
    drawn.wait()
    drawn.server("rate_limits.updated", rate_limits=[])
    return drawn.lines


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """A session's lines."""
    numbers: list[int] = []

    def choose(below: int) -> int:
        numbers.append(draw(st.integers(0, below - 1)))
        return numbers[-1]

    return Session(session(choose), numbers)
