"""Log lines of the proxy's processes: one form for all, for people or for programs.

A line says when, how loud, which process, and what; facts that are worth searching for are fields (`session_id`), given
as `log.info("…", extra={"session_id": …})`. Recorded content is never logged. Keys cannot be, wherever they might come
from: what looks like one is replaced by its fingerprint on the way out.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Final, TextIO

import msgspec

from recorder.errors import UsageError
from recorder.protocol.redact import redact_text

FORMAT_VARIABLE: Final = "RECORDER_LOG_FORMAT"
LEVEL_VARIABLE: Final = "RECORDER_LOG_LEVEL"
PROCESS_VARIABLE: Final = "RECORDER_PROCESS"
"""What the supervisor calls a child, since there may be several workers."""

FIRST_LINES: Final = 10
PERIOD_SECONDS: Final = 60.0
"""Of lines of one cause that strangers can provoke, so many are written, by each process, in so long."""

FORMATS: Final = ("console", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS: Final = {"DEBUG": "2", "INFO": "36", "WARNING": "33", "ERROR": "1;31", "CRITICAL": "1;31"}


def configure(process: str, *, log_format: str | None = None, level: str | None = None) -> None:
    """Send this process's log to stderr, and let the processes it starts do likewise.

    Args:
        process: what this one is called in the log, if its parent has no name for it.
        log_format: "console" or "json"; None takes the environment's.
        level: the least that is logged; None takes the environment's.

    Raises:
        UsageError: there is no such format or level.
    """
    log_format = _choice("--log-format", log_format, FORMAT_VARIABLE, FORMATS, "console")
    level = _choice("--log-level", level, LEVEL_VARIABLE, LEVELS, "info")
    process = os.environ.get(PROCESS_VARIABLE, process)
    handler = LimitedHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if log_format == "json" else ConsoleFormatter(process, sys.stderr))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _choice(option: str, given: str | None, variable: str, allowed: tuple[str, ...], default: str) -> str:
    chosen = (given or os.environ.get(variable) or default).lower()
    if chosen not in allowed:
        raise UsageError(f"{option} {chosen!r} is none of {', '.join(allowed)}")
    os.environ[variable] = chosen
    return chosen


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes lines; of those that strangers can provoke, only so many.

    Whoever can reach the listener could fill the disk with lines otherwise. A line with a field `cause` is one of
    them: of each cause the first `FIRST_LINES` of a period are written, and at its end how many more there were.

    Args:
        stream: where to.
        period_seconds: how long a period is; it begins with a line.
    """

    def __init__(self, stream: TextIO, period_seconds: float = PERIOD_SECONDS) -> None:
        super().__init__(stream)
        self._period_seconds = period_seconds
        self._periods: dict[str, _Period] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it. The caller holds the handler's lock."""
        cause: str | None = getattr(record, "cause", None)
        if cause is None:
            super().emit(record)
            return
        now = time.monotonic()
        period = self._periods.get(cause)
        if period is None or (now >= period.ends_at and not period.left_out):
            period = self._periods[cause] = _Period(now + self._period_seconds)
        if period.written < FIRST_LINES:
            period.written += 1
            super().emit(record)
            return
        if not period.left_out:
            timer = threading.Timer(max(period.ends_at - now, 0), self._tell, (cause,))
            timer.daemon = True
            timer.start()
        period.left_out += 1
        period.latest = (record.name, record.levelno, record.getMessage())

    def _tell(self, cause: str) -> None:
        with self.lock or contextlib.nullcontext():
            period = self._periods.pop(cause, None)
            if period is not None and period.left_out:
                name, level, message = period.latest
                words = f"{period.left_out} more lines like this within {self._period_seconds:.0f} s: {message}"
                record = logging.LogRecord(name, level, "", 0, words, None, None)
                vars(record).update(cause=cause, left_out=period.left_out)
                super().emit(record)

    def close(self) -> None:
        """Say what has not been said."""
        for cause in list(self._periods):
            self._tell(cause)
        super().close()


@dataclass
class _Period:
    ends_at: float
    written: int = 0
    left_out: int = 0
    latest: tuple[str, int, str] = ("", 0, "")  # logger, level, message


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC, ISO 8601), `level`, `process`, `pid`, `logger`, `message`, then the fields.

    An unforeseen failure adds `exception`, its traceback.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": redact_text(record.getMessage()),
        }
        line |= {name: _plain(value) for name, value in _fields(record).items() if name not in line}
        if record.exc_info:
            line["exception"] = redact_text(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class ConsoleFormatter(logging.Formatter):
    """`time level process message field=value`, coloured on terminals."""

    def __init__(self, process: str, stream: TextIO) -> None:
        super().__init__()
        self._process = process
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows on lines of its own."""
        time = dt.datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = self._paint(_COLOURS[record.levelname], f"{record.levelname.lower():<7}")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        message = _shown(redact_text(record.getMessage()))
        line = f"{self._paint('2', time)} {level} {self._process:<10} {message}" + self._paint(
            "2", _shown(redact_text(fields))
        )
        if record.exc_info:
            line += "\n" + redact_text(self.formatException(record.exc_info))
        return line

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and text else text


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else redact_text(str(value))


def _shown(text: str) -> str:
    """What others sent may be part of a message: a line stays a line, and a terminal is not spoken to."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
