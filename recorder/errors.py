"""Every failure the recorder reports on purpose, as one tree.

Each class is one case. Values are attributes, so that callers never parse a message; the message names the
thing and the place, and `hint` says what to do next. The command line prints `error: message` and `hint:`
and exits with `exit_code`; the API answers `http_status` with the same words.
"""

from __future__ import annotations


class RecorderError(Exception):
    """Base of all expected failures.

    Attributes:
        message: what went wrong, naming the thing and the place.
        hint: what the reader can do about it, or "".
        exit_code: the command line's exit code.
        http_status: the API's status code.
    """

    exit_code: int = 1
    http_status: int = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RecorderError):
    """The caller asked for something that makes no sense as said."""

    exit_code = 2
    http_status = 400


class SessionNotFoundError(RecorderError):
    """No session matches what was named."""

    exit_code = 3
    http_status = 404

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"no session matches {reference!r}",
            hint="`recorder sessions` lists them; name one by a prefix of its id, its sess_… id, or `last`.",
        )
        self.reference = reference


class AmbiguousSessionError(RecorderError):
    """A prefix fits more than one session."""

    exit_code = 3
    http_status = 409

    def __init__(self, reference: str, matches: list[str]) -> None:
        shown = ", ".join(matches[:4]) + (", …" if len(matches) > 4 else "")
        super().__init__(
            f"{reference!r} fits {len(matches)} sessions: {shown}",
            hint="Give more characters of the id.",
        )
        self.reference = reference
        self.matches = matches


class EventNotFoundError(RecorderError):
    """A session has no event at the named position."""

    exit_code = 3
    http_status = 404

    def __init__(self, session_id: str, position: int) -> None:
        super().__init__(f"session {session_id} has no event at position {position}")
        self.session_id = session_id
        self.position = position


class AudioRemovedError(RecorderError):
    """A message cannot be given back whole: its audio was removed from the store."""

    exit_code = 3
    http_status = 410

    def __init__(self, session_id: str, position: int) -> None:
        super().__init__(
            f"the audio of event {position} of session {session_id} was removed from the store",
            hint="All else of the event is there: `recorder events` shows it.",
        )
        self.session_id = session_id
        self.position = position


class SessionRunningError(RecorderError):
    """A session cannot be changed while it is being recorded."""

    exit_code = 3
    http_status = 409

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id} is still being recorded; nothing was changed",
            hint="Wait until it has ended. POST /sessions/ID/stop-recording of the proxy's admin address ends its "
            "recording now; after a killed proxy, `recorder seal` brings in what is left.",
        )
        self.session_id = session_id


class NoAudioError(RecorderError):
    """A session has no audio that could be exported."""

    exit_code = 3
    http_status = 404

    def __init__(self, session_id: str, *, removed: bool) -> None:
        super().__init__(
            f"session {session_id} has {'no audio any more: it was not kept, or removed' if removed else 'no audio'}",
            hint="`recorder show` shows what it has.",
        )
        self.session_id = session_id
        self.removed = removed


class QueryError(RecorderError):
    """The user's SQL failed, or is not allowed (only reading is)."""

    exit_code = 2
    http_status = 400


class UnreadableFileError(QueryError):
    """A data file that a query reads is gone, or damaged."""


class ImportFormatError(RecorderError):
    """A file to import is not what it should be; nothing of it was stored."""

    exit_code = 4
    http_status = 422

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}", hint="See docs/formats.md for what can be imported.")
        self.path = path
        self.line = line
        self.problem = problem


class StoreError(RecorderError):
    """The data directory cannot be used as it is."""

    exit_code = 5
    http_status = 503


class MissingPartError(StoreError):
    """A journal goes on from a part that is not sealed."""

    def __init__(self, journal: str) -> None:
        super().__init__(
            f"{journal} goes on from a part that is not sealed",
            hint="That part may lie in quarantine: move it back first.",
        )


class EncryptionKeyError(RecorderError):
    """A key is missing, or is none. Not a `StoreError`: what cannot be decrypted is not damaged, and is left alone."""

    exit_code = 5
    http_status = 503


class DamagedManifestError(StoreError):
    """A manifest cannot be read, so that it is not known what the store holds."""

    def __init__(self, path: str, problem: object) -> None:
        super().__init__(
            f"{path} is damaged: {problem}", hint="`recorder verify` says what it held; move it away to go on without."
        )
        self.path = path


class ObjectStoreError(StoreError):
    """A bucket is away, or does not let us."""


class ObjectGoneError(ObjectStoreError):
    """An object is not in the bucket (any more)."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not in the bucket any more", hint="It was replaced or erased meanwhile: try again."
        )
        self.name = name


class DamagedObjectError(ObjectStoreError):
    """An object is not what its manifest says."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is damaged: its content is not what its manifest says",
            hint="`recorder verify` checks a store.",
        )
        self.address = address


class CacheTooSmallError(StoreError):
    """A query needs more data files of an object store than the cache may hold."""

    http_status = 507

    def __init__(self, needed: int, allowed: int) -> None:
        super().__init__(
            f"the query reads {needed / (1 << 20):,.1f} MiB of data files; "
            f"the cache may hold {allowed / (1 << 20):,.1f} MiB",
            hint="Raise RECORDER_CACHE_MB, or query derived tables like sessions, responses and turns instead.",
        )
        self.needed = needed
        self.allowed = allowed


class NewerFormatError(StoreError):
    """Data was written by a newer version of the recorder."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path}: format version {found} is newer than this recorder reads ({supported})",
            hint="Upgrade realtime-recorder; nothing was changed.",
        )
        self.path = path
        self.found = found
        self.supported = supported


class ListenError(RecorderError):
    """An address cannot be listened on."""

    exit_code = 6

    def __init__(self, address: str, problem: str, *, option: str = "--listen") -> None:
        super().__init__(f"cannot listen on {address}: {problem}", hint=f"Choose another address with {option}.")
        self.address = address


class CollectorError(RecorderError):
    """A collector of telemetry cannot be reached, or does not take what it is sent."""

    exit_code = 6

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(
            f"{address} did not take the spans: {problem}",
            hint="Name the collector with --endpoint or OTEL_EXPORTER_OTLP_ENDPOINT (OTLP over HTTP, port 4318).",
        )
        self.address = address


class ScriptError(RecorderError):
    """A simulator script is not valid."""

    exit_code = 2

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}", hint="See docs/simulator.md for the script format.")
        self.path = path
        self.problem = problem


class DemoError(RecorderError):
    """The demo failed: a part did not start, a conversation broke off, or a page shows other numbers than the store."""
