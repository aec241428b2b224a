"""Service level objectives: which share of calls must be good, what of the error budget is left, how fast it burns.

    [[slo]]
    name = "first audio"
    indicator = "first_audio_seconds"      # one of INDICATORS
    at_most = 1.5                          # what is good (or at_least)
    objective = 0.95                       # the share that must be
    window = "7d"                          # over which time
    where = {model = "gpt-realtime", "label:tenant" = "acme"}

The burn rate is the share of bad ones ÷ the share that may be bad: at 1 the budget lasts just as long as the window.
An alert fires while two windows both burn faster than a limit, the long one so that it matters, the short one so that
it ends soon after the trouble does (the multi-window alerts of Google's Site Reliability Workbook, chapter 5).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from recorder.errors import RecorderError

State = Literal["met", "missed", "no data"]


class Indicator(NamedTuple):
    """What can be an objective.

    Attributes:
        what: one of what it counts, and what is measured of it.
        table: where the rows are.
        value: SQL of the measure; rows where it is NULL do not count.
        at_ns: the column that says when, since the session opened; None: when it opened.
        condition: SQL that says which rows count.
    """

    what: str
    table: str
    value: str
    at_ns: str | None = None
    condition: str = "true"

    @property
    def query(self) -> str:
        """SQL that gives `session_id`, `value` and `happened_at`."""
        at = "opened_at" if self.at_ns is None else f"opened_at + to_microseconds({self.at_ns} // 1000)"
        rows = "sessions" if self.table == "sessions" else f"{self.table} AS own JOIN sessions USING (session_id)"
        return f"SELECT session_id, {self.value} AS value, {at} AS happened_at FROM {rows} WHERE {self.condition}"  # noqa: S608


_ENDED: Final = "sessions.status <> 'running'"
_IN_BAND: Final = "NOT out_of_band"

INDICATORS: Final[dict[str, Indicator]] = {
    "first_audio_seconds": Indicator(
        "response: trigger → first audio", "responses", "time_to_first_audio_seconds", "trigger_at_ns", _IN_BAND
    ),
    "voice_to_voice_seconds": Indicator(
        "response: end of the user's voice → first audio",
        "responses",
        "voice_to_voice_seconds",
        "trigger_at_ns",
        _IN_BAND,
    ),
    "response_failed": Indicator(
        "response: 1 if it failed or never ended, else 0 (cancelled ones are good)",
        "responses",
        "CAST(own.status IN ('failed', 'dangling') AS INTEGER)",
        "created_at_ns",
        _ENDED,
    ),
    "stall_ms": Indicator("response with audio: silence heard within it", "responses", "stall_ms", "created_at_ns"),
    "barge_in_stop_seconds": Indicator(
        "barge-in: speech_started → response.done", "interruptions", "stop_seconds", "at_ns", _IN_BAND
    ),
    "barge_in_reaction_seconds": Indicator(
        "barge-in: speech_started → the client's truncate, cancel or clear",
        "interruptions",
        "reaction_seconds",
        "at_ns",
        _IN_BAND,
    ),
    "tool_seconds": Indicator(
        "tool call: arguments finished → the client's answer",
        "tool_calls",
        "execution_seconds",
        "arguments_done_at_ns",
    ),
    "errors": Indicator("session: `error` events in it", "sessions", "error_count", None, _ENDED),
    "session_failed": Indicator(
        "session: 1 if it was refused or lost, else 0",
        "sessions",
        "CAST(status IN ('refused', 'lost') AS INTEGER)",
        None,
        _ENDED,
    ),
    "cost_usd": Indicator("session: what it cost", "sessions", "cost_usd", None, _ENDED),
    "cost_per_minute_usd": Indicator(
        "session: what a minute of it cost", "sessions", "cost_per_minute_usd", None, _ENDED
    ),
}

_SPAN: Final = re.compile(r"([1-9]\d{0,4})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_COLUMNS: Final = frozenset({"model", "voice", "upstream", "source", "user_agent"})
_LABEL: Final = "label:"

Positive = Annotated[float, msgspec.Meta(gt=0)]


class SloFileError(RecorderError):
    """The file of objectives is not what it should be."""

    exit_code = 2

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}", hint="docs/slo.md has an example; --slo or RECORDER_SLO names another file."
        )
        self.path = path
        self.problem = problem


class Burn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to alert: both windows burn at least so fast."""

    long: str
    short: str
    rate: Positive


_USUAL_BURNS: Final = (Burn("1h", "5m", 14.4), Burn("6h", "30m", 6.0))


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One objective.

    Attributes:
        name: unique in the file.
        indicator: a key of `INDICATORS`.
        objective: the share that must be good, above 0 and below 1.
        at_most: values up to this are good.
        at_least: values from this on are good; one of the two.
        window: over which time, such as `7d`.
        where: session columns (model, voice, upstream, source, user_agent) or `label:KEY` → the value that counts.
        alerts: when to alert.
    """

    name: str
    indicator: str
    objective: float
    at_most: float | None = None
    at_least: float | None = None
    window: str = "7d"
    where: dict[str, str] = {}
    alerts: tuple[Burn, ...] = _USUAL_BURNS


class _File(msgspec.Struct, forbid_unknown_fields=True):
    slo: list[Slo]


class Span(msgspec.Struct, frozen=True):
    """What happened in one window.

    Attributes:
        window: its length, such as `7d`.
        n: how many counted.
        bad: how many of them were not good.
        burn_rate: share of bad ones ÷ share that may be bad; None without any.
    """

    window: str
    n: int
    bad: int
    burn_rate: float | None


class Report(msgspec.Struct, frozen=True):
    """How one objective stands.

    Attributes:
        name: the objective's.
        indicator: what it is about.
        objective: the share that must be good.
        good_ratio: the share that was; None without any.
        state: met, missed, or no data.
        budget_left: 1: nothing was bad; 0: all that may be was; below: missed. None without any.
        spans: the objective's window first, then those of its alerts.
        alerting: whether an alert fires.
    """

    name: str
    indicator: str
    objective: float
    good_ratio: float | None
    state: State
    budget_left: float | None
    spans: tuple[Span, ...]
    alerting: bool


Query = Callable[[str, list[Any]], Any]
"""Runs SQL with parameters and gives a polars frame: `Catalog.query`."""


def load_slos(path: Path) -> tuple[Slo, ...]:
    """Read a file of objectives.

    Raises:
        SloFileError: it cannot be used; names the objective and the key.
    """
    try:
        slos = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).slo
    except OSError as error:
        raise SloFileError(str(path), error.strerror or str(error)) from error
    except (ValueError, msgspec.ValidationError) as error:
        raise SloFileError(str(path), str(error)) from error
    names = [slo.name for slo in slos]
    for slo in slos:
        problem = "its name stands twice" if names.count(slo.name) > 1 else _problem(slo)
        if problem:
            raise SloFileError(str(path), f"slo {slo.name!r}: {problem}")
    if not slos:
        raise SloFileError(str(path), "no [[slo]] in it")
    return tuple(slos)


def _problem(slo: Slo) -> str | None:
    if slo.indicator not in INDICATORS:
        return f"unknown indicator {slo.indicator!r}; there are {', '.join(INDICATORS)}"
    if not 0 < slo.objective < 1:
        return f"objective = {slo.objective:g} is no share; say one between 0 and 1, such as 0.95"
    if (slo.at_most is None) == (slo.at_least is None):
        return "say one of at_most and at_least"
    limits = [("at_most", slo.at_most), ("at_least", slo.at_least), *(("rate", burn.rate) for burn in slo.alerts)]
    problems = [
        f"{name} = {limit:g} is no number to compare with" for name, limit in limits if not isfinite(limit or 0)
    ]
    texts = (slo.window, *(window for burn in slo.alerts for window in (burn.long, burn.short)))
    problems += [f"{text!r} is no length of time such as 30m, 6h or 7d" for text in texts if not _SPAN.fullmatch(text)]
    names = f"{', '.join(sorted(_COLUMNS))} and label:KEY"
    unknown = [key for key in slo.where if key not in _COLUMNS and not key.startswith(_LABEL)]
    problems += [f"where: {key!r} is none of {names}" for key in unknown]
    return problems[0] if problems else None


def evaluate(slo: Slo, query: Query, now: datetime) -> Report:
    """How an objective stands.

    Args:
        slo: which.
        query: runs SQL over a store.
        now: the end of all windows.
    """
    windows = tuple(dict.fromkeys((slo.window, *(text for burn in slo.alerts for text in (burn.long, burn.short)))))
    counts = _counts(slo, query, windows, now)
    spans = {text: _span(slo, text, *counts[text]) for text in windows}
    whole = spans[slo.window]
    good = (whole.n - whole.bad) / whole.n if whole.n else None  # 1 - bad / n can be less than the objective
    alerting = any(_burns(spans[burn.long], burn.rate) and _burns(spans[burn.short], burn.rate) for burn in slo.alerts)
    return Report(
        name=slo.name,
        indicator=slo.indicator,
        objective=slo.objective,
        good_ratio=good,
        state="no data" if good is None else "met" if good >= slo.objective else "missed",
        budget_left=None if whole.burn_rate is None else 1 - whole.burn_rate,
        spans=tuple(spans.values()),
        alerting=alerting,
    )


def evaluate_all(slos: Sequence[Slo], query: Query, now: datetime) -> list[Report]:
    """`evaluate` for each of them."""
    return [evaluate(slo, query, now) for slo in slos]


def _counts(slo: Slo, query: Query, windows: Sequence[str], now: datetime) -> dict[str, tuple[int, int]]:
    good = "value <= ?" if slo.at_most is not None else "value >= ?"
    conditions = ["value IS NOT NULL", "happened_at <= ?", "happened_at > ?"]
    values: list[Any] = [now, now - max(map(span, windows))]
    for key, value in slo.where.items():
        if key.startswith(_LABEL):
            conditions.append("json_extract_string(labels, ?) = ?")
            values += ['$."' + key.removeprefix(_LABEL).replace('"', "") + '"', value]
        else:
            conditions.append(f"sessions.{key} = ?")
            values.append(value)
    counts = ", ".join(
        f"count(*) FILTER (happened_at > ?), count(*) FILTER (happened_at > ? AND NOT {good})" for _ in windows
    )
    limit = slo.at_most if slo.at_most is not None else slo.at_least
    asked = [each for text in windows for each in (now - span(text), now - span(text), limit)]
    sql = (  # names of our own; values are parameters
        f"SELECT {counts} FROM ({INDICATORS[slo.indicator].query}) AS indicator "  # noqa: S608
        f"JOIN sessions USING (session_id) WHERE {' AND '.join(conditions)}"
    )
    (row,) = query(sql, [*asked, *values]).rows()
    return {text: (row[2 * at], row[2 * at + 1]) for at, text in enumerate(windows)}


def span(text: str) -> timedelta:
    """The length of time that a text such as `30m` or `7d` means."""
    found = _SPAN.fullmatch(text)
    assert found is not None
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _span(slo: Slo, text: str, n: int, bad: int) -> Span:
    # As fractions, for a rate that is just reached: in floats 1 / (1 - 0.95) is less than 20.
    return Span(text, n, bad, float(Fraction(bad, n) / (1 - Fraction(repr(slo.objective)))) if n else None)


def _burns(happened: Span, rate: float) -> bool:
    return happened.burn_rate is not None and happened.burn_rate >= rate
