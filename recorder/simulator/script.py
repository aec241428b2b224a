"""Scripts: what a simulated server and its matching client say and do, as YAML data files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from recorder.errors import ScriptError
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.session import Session

Positive = Annotated[float, Meta(gt=0)]
Duration = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
CloseCode = Annotated[int, Meta(ge=1000, le=4999)]
End = Literal["completed", "failed", "incomplete", "dangling", "close", "disconnect"]


class _Part(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A piece of a script; a misspelt key is an error, never ignored."""


class Close(_Part, frozen=True):
    """A WebSocket close."""

    code: CloseCode = 1000
    reason: str = ""


class ErrorBody(_Part, frozen=True):
    """The `error` object of an error event or of a failed response."""

    type: str = "invalid_request_error"
    code: str | None = None
    message: str = ""
    param: str | None = None


class ToolCall(_Part, frozen=True):
    """A function the model calls; arguments as a mapping, or as text to send exactly so (even if it is not JSON)."""

    name: str
    arguments: dict[str, Any] | str = {}


class Pacing(_Part, frozen=True):
    """Delays in milliseconds, all divided by the simulator's speed.

    `queue_ms`: trigger → response.created; `first_token_ms`, `first_audio_ms`: created → first delta, first audio;
    `pace`: seconds of audio generated a second; `token_ms`: between text deltas; `delta_ms`: audio in one delta;
    `transcription_ms`: commit → first transcription delta; `jitter`: share by which delays vary.
    """

    queue_ms: Duration = 60
    first_token_ms: Duration = 180
    first_audio_ms: Duration = 320
    pace: Positive = 6.0
    token_ms: Duration = 15
    delta_ms: Positive = 100
    transcription_ms: Duration = 250
    jitter: Share = 0.1


class Turn(_Part, frozen=True):
    """One response of the server, and what the user was heard to say before it."""

    user: str | None = None
    transcription: Literal["completed", "failed"] = "completed"
    say: str | None = None
    after_tool: str | None = None
    audio_seconds: Positive | None = None
    modality: Literal["audio", "text"] | None = None
    tools: list[ToolCall] = []
    pacing: dict[str, float] = {}
    usage: dict[str, Any] | None = None
    end: End = "completed"
    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"
    cut_at: Share = 0.5
    error: ErrorBody = ErrorBody(type="server_error", code="server_error", message="The server had an error.")
    close: Close = Close(code=1011, reason="internal_error")

    def __post_init__(self) -> None:
        """Refuse pacing that would not be pacing of a script either."""
        try:
            msgspec.convert(self.pacing, Pacing)
        except msgspec.ValidationError as problem:
            raise ValueError(f"pacing: {problem}") from None


class Inject(_Part, frozen=True):
    """An extra server event, sent right after an event of the type `after` (the first, or each)."""

    after: str
    event: dict[str, Any]
    every: bool = False


class Rewrite(_Part, frozen=True):
    """Changes to every server event of a type: dotted paths to set, dotted paths to remove. `*` means all types."""

    type: str
    set: dict[str, Any] = {}
    remove: list[str] = []


class Refusal(_Part, frozen=True):
    """What a refused connection gets right after its handshake: an error event, then a close."""

    error: ErrorBody
    close: Close


class ToolAnswer(_Part, frozen=True):
    """What the client's function returns, and how long it takes."""

    output: Any
    delay_ms: Duration = 150


class Step(_Part, frozen=True):
    """One thing the client does; exactly one key is given. See docs/simulator.md."""

    send: dict[str, Any] | None = None
    raw: str | None = None
    binary: str | None = None
    text: str | None = None
    respond: dict[str, Any] | None = None
    microphone: bool | None = None
    speak: Positive | None = None
    commit: bool | None = None
    wait: str | None = None
    hear: Positive | None = None
    pause: Positive | None = None
    cancel: bool | None = None
    truncate: Annotated[int, Meta(ge=0)] | Literal["played"] | None = None
    close: Close | None = None
    abort: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a step that does nothing or two things."""
        if len([field for field in self.__struct_fields__ if getattr(self, field) is not None]) != 1:
            raise ValueError(f"a step has exactly one of: {', '.join(self.__struct_fields__)}")

    @property
    def action(self) -> str:
        """The key that is given."""
        return next(field for field in self.__struct_fields__ if getattr(self, field) is not None)


class ClientPart(_Part, frozen=True):
    """The matching client: its steps, and how it reacts to the server by itself."""

    audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] = "pcm16"
    on_speech_started: Literal["truncate", "ignore"] = "truncate"
    tools: dict[str, ToolAnswer] = {}
    wait_seconds: Positive = 30
    steps: list[Step] = []


class Script(_Part, frozen=True):
    """A whole script; every key has a default, so that the empty file is a valid script.

    `turns` are the responses of the default conversation in order; when they are used up, `fallback` is cycled.
    `out_of_band` serves responses outside the conversation, cycled as well.
    """

    name: str = "unnamed"
    description: str = ""
    model: str = "gpt-realtime"
    dialect: Literal["ga", "beta"] = "ga"
    session: dict[str, Any] = {}
    pacing: Pacing = Pacing()
    turns: list[Turn] = []
    fallback: Annotated[list[Turn], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [Turn(say="I am listening.", user="Hello.")]
    )
    out_of_band: Annotated[list[Turn], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [Turn(say="A note beside the conversation.")]
    )
    rate_limits: Literal["before_done", "after_done", "never"] = "after_done"
    inject: list[Inject] = []
    rewrite: list[Rewrite] = []
    refuse: Refusal | None = None
    client: ClientPart = ClientPart()


def parse_script(text: str, *, source: str, name: str) -> Script:
    """Read a script.

    Args:
        text: YAML.
        source: what errors call the script: its file.
        name: the script's name, unless the text gives one.

    Raises:
        ScriptError: the text is no script; the error names `source` and the place within.
    """
    try:
        data = yaml.safe_load(text) or {}
        script = msgspec.convert(data, Script)
        Session("", script.model, dialect=script.dialect, overrides=script.session)
    except yaml.MarkedYAMLError as problem:
        line = f"line {problem.problem_mark.line + 1}: " if problem.problem_mark else ""
        raise ScriptError(source, f"{line}not valid YAML: {problem.problem}") from None
    except yaml.YAMLError as problem:
        raise ScriptError(source, f"not valid YAML: {str(problem).splitlines()[0]}") from None
    except msgspec.ValidationError as problem:
        raise ScriptError(source, str(problem)) from None
    except EventRefusedError as problem:
        raise ScriptError(source, f"{problem.message} - at `$.session`") from None
    return script if "name" in data else msgspec.structs.replace(script, name=name)


def packaged_names() -> list[str]:
    """The names of the scripts that come with the recorder."""
    folder = resources.files("recorder.simulator") / "scripts"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_script(reference: str | Path) -> Script:
    """Load a packaged script by its name, or a file by its path.

    Raises:
        ScriptError: there is no such script, or it is not valid.
    """
    packaged = resources.files("recorder.simulator") / "scripts" / f"{reference}.yaml"
    if str(reference) in packaged_names():
        return parse_script(packaged.read_text("utf-8"), source=f"{reference}.yaml", name=str(reference))
    path = Path(reference)
    try:
        return parse_script(path.read_text("utf-8"), source=str(path), name=path.stem)
    except FileNotFoundError:
        raise ScriptError(str(reference), f"no such script or file; packaged: {', '.join(packaged_names())}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ScriptError(str(reference), f"cannot be read: {problem}") from None
