import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorder import logs
from recorder.errors import UsageError
from recorder.logs import ConsoleFormatter, JsonFormatter

KEY = "sk-abcdefghijklmnop1234"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(message: str, *arguments: object, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("recorder.somewhere", level, "", 1, message, arguments, None)
    made.created = 1_790_000_000.5
    vars(made).update(fields)
    return made


def test_a_json_line() -> None:
    line = JsonFormatter("worker 1").format(record("%d bytes lost", 7, session_id="s-1", gap_bytes=7, nothing=None))
    assert json.loads(line) == {
        "time": "2026-09-21T14:13:20.500+00:00",
        "level": "info",
        "process": "worker 1",
        "pid": os.getpid(),
        "logger": "recorder.somewhere",
        "message": "7 bytes lost",
        "session_id": "s-1",
        "gap_bytes": 7,
    }


def test_a_field_cannot_stand_in_for_what_every_line_says() -> None:
    line = json.loads(JsonFormatter("worker 1").format(record("said", level=logging.ERROR, pid=1, time="never")))
    assert (line["pid"], line["time"], line["level"]) == (os.getpid(), "2026-09-21T14:13:20.500+00:00", "error")


def test_a_console_line_is_plain_where_it_is_no_terminal() -> None:
    line = ConsoleFormatter("recorder", io.StringIO()).format(record("sealed", session_id="s-1"))
    assert line.endswith(" info    recorder   sealed session_id=s-1")
    assert "\x1b" not in line


def test_colours_are_for_terminals_and_can_be_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in ConsoleFormatter("recorder", Terminal()).format(record("bad", level=logging.ERROR))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ConsoleFormatter("recorder", Terminal()).format(record("bad", level=logging.ERROR))


def test_what_others_sent_stays_on_its_line() -> None:
    line = ConsoleFormatter("recorder", io.StringIO()).format(record("%s", "a\nb\x1b[2J\u202e", session_id="x\ny"))
    assert line.endswith("a\\nb\\x1b[2J\\u202e session_id=x\\ny")


@pytest.mark.parametrize("formatter", [JsonFormatter("x"), ConsoleFormatter("x", io.StringIO())])
def test_keys_do_not_get_into_the_log(formatter: logging.Formatter) -> None:
    made = record("refused %s", f"Bearer {KEY} and {KEY}", note=KEY, level=logging.ERROR)
    made.exc_info = (ValueError, ValueError(KEY), None)
    line = formatter.format(made)
    assert KEY not in line
    assert line.count("redacted:sha256:") == 4
    assert "ValueError" in line


@pytest.fixture
def clean_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for name in (logs.FORMAT_VARIABLE, logs.LEVEL_VARIABLE, logs.PROCESS_VARIABLE):
        monkeypatch.setenv(name, "")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_children_log_as_their_parent_was_told(clean_logging: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("supervisor", log_format="json", level="warning")
    assert (os.environ[logs.FORMAT_VARIABLE], os.environ[logs.LEVEL_VARIABLE]) == ("json", "warning")
    os.environ[logs.PROCESS_VARIABLE] = "worker 3"
    logs.configure("worker")
    logging.getLogger("recorder").info("not said")
    logging.getLogger("recorder").warning("said")
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["process"], json.loads(line)["message"]) == ("worker 3", "said")


@pytest.mark.parametrize(
    ("option", "choice"), [("--log-format", {"log_format": "xml"}), ("--log-level", {"level": "5"})]
)
def test_unknown_forms_and_levels(clean_logging: None, option: str, choice: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=option):
        logs.configure("supervisor", **choice)


def test_every_field_of_a_line_is_documented() -> None:
    root = Path(__file__).parents[1]
    table = (root / "docs" / "observability.md").read_text(encoding="utf-8").partition("| field | meaning |")[2]
    documented = set(re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE))
    given = {
        key
        for path in (root / "recorder").rglob("*.py")
        for pairs in re.findall(r"extra=\{(.*?)\}", path.read_text(encoding="utf-8"), re.DOTALL)
        for key in re.findall(r'"(\w+)":', pairs)
    }
    written = json.loads(JsonFormatter("x").format(record("said")))
    assert documented == {*written, *given, "exception", "left_out"}


def limited(period_seconds: float) -> tuple[logs.LimitedHandler, io.StringIO]:
    written = io.StringIO()
    handler = logs.LimitedHandler(written, period_seconds)
    handler.setFormatter(JsonFormatter("worker 0"))
    return handler, written


def lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_of_lines_that_strangers_provoke_the_first_are_written_and_then_a_count() -> None:
    handler, written = limited(3600)
    for number in range(1000):
        handler.handle(record("refused %d", number, cause="bad_request", level=logging.WARNING))
        if number < 3:
            handler.handle(record("refused %d", number, cause="no_route"))
        handler.handle(record("news %d", number))
    handler.close()
    found = lines(written)
    refused = [line["message"] for line in found if line.get("cause") == "bad_request"]
    assert refused == [f"refused {number}" for number in range(10)] + [
        "990 more lines like this within 3600 s: refused 999"
    ]
    assert found[-1] == {**found[-1], "level": "warning", "logger": "recorder.somewhere", "left_out": 990}
    assert [line["message"] for line in found if line.get("cause") == "no_route"] == [f"refused {n}" for n in range(3)]
    assert sum("cause" not in line for line in found) == 1000


def test_the_count_comes_at_the_periods_end_by_itself_and_a_new_period_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[tuple[float, Callable[[], None]]] = []

    class Timer:
        def __init__(self, seconds: float, call: Callable[..., None], arguments: tuple[str, ...]) -> None:
            due.append((seconds, lambda: call(*arguments)))

        def start(self) -> None:
            """Not before the test says so."""

    monkeypatch.setattr("threading.Timer", Timer)
    handler, written = limited(60)
    for number in range(12):
        handler.handle(record("refused %d", number, cause="bad_request"))
    ((seconds, goes_off),) = due
    assert 0 < seconds <= 60
    goes_off()
    handler.handle(record("refused again", cause="bad_request"))
    assert [line["message"] for line in lines(written)][10:] == [
        "2 more lines like this within 60 s: refused 11",
        "refused again",
    ]
