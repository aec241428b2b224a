"""What `recorder demo --once` checks: the service's answers and pages show the numbers of the store."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from recorder.errors import DemoError

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog

TIMEOUT_SECONDS: Final = 30
MOST_ROWS: Final = 50
"""That a page of the session list shows."""
EXACT: Final = (
    "server_session_id",
    "model",
    "status",
    "event_count",
    "turn_count",
    "response_count",
    "interruption_count",
    "tool_call_count",
    "total_tokens",
    "duration_seconds",
    "time_to_first_audio_p50_seconds",
)
Row = dict[str, Any]


def check(url: str, catalog: Catalog) -> list[str]:
    """Compare what is served at `url` with the store.

    Args:
        url: as `recorder serve` printed it, with the token if there is one.
        catalog: the store, all of whose sessions have ended.

    Returns:
        What was checked, as lines.

    Raises:
        DemoError: something is missing or differs.
    """
    rows = catalog.query("SELECT * FROM sessions ORDER BY opened_at DESC, session_id DESC").to_dicts()
    site = _Site(url)
    checks = (_health, _api, _overview, _list, _session)
    return [one(site, rows, catalog) for one in checks]


def _health(site: _Site, _rows: list[Row], _catalog: Catalog) -> str:
    site.json("/healthz")
    return "/healthz answers"


def _api(site: _Site, rows: list[Row], _catalog: Catalog) -> str:
    page = site.json("/api/v1/sessions?limit=1000")
    _same("/api/v1/sessions", "total", page["total"], len(rows))
    found = {row["session_id"]: row for row in page["data"]}
    for row in rows[:1000]:
        for name in EXACT:
            _same("/api/v1/sessions", name, found.get(row["session_id"], {}).get(name), row[name])
    return f"/api/v1/sessions: {len(rows)} sessions with the store's numbers"


def _overview(site: _Site, rows: list[Row], _catalog: Catalog) -> str:
    from dashboards import format as shown
    from dashboards import words

    tiles = site.page("/?period=all").tiles
    for title, wanted in {
        words.TILE_SESSIONS: shown.count(len(rows)),
        words.TILE_INTERRUPTIONS: shown.count(sum(row["interruption_count"] for row in rows)),
        words.TILE_TOKENS: shown.short_count(sum(row["total_tokens"] or 0 for row in rows)),
        words.TILE_ERRORS: shown.count(sum(row["error_count"] for row in rows)),
    }.items():
        _same("overview", title, tiles.get(title), wanted)
    return "overview: sessions, interruptions, tokens and errors add up"


def _list(site: _Site, rows: list[Row], _catalog: Catalog) -> str:
    from dashboards import format as shown

    found = site.page("/sessions").rows
    for row in rows[:MOST_ROWS]:
        cells = found.get(row["session_id"], [])
        for name, wanted in {
            "duration": shown.seconds(row["duration_seconds"]),
            "turns": shown.count(row["turn_count"]),
            "first audio": shown.seconds(row["time_to_first_audio_p50_seconds"]),
            "tokens": shown.count(row["total_tokens"]),
        }.items():
            if wanted not in cells:
                raise DemoError(f"session list: {row['session_id']} does not show {name} {wanted}, but {cells}")
    return f"session list: {len(found)} rows with the store's numbers"


def _session(site: _Site, rows: list[Row], catalog: Catalog) -> str:
    """The page of the session in which most happens."""
    from dashboards import format as shown
    from dashboards import words

    row = max(rows, key=lambda one: (one["interruption_count"], one["turn_count"]))
    page = site.page(f"/sessions/{row['session_id']}")
    for title, wanted in {
        words.FACT_MODEL: row["model"],
        words.FACT_TURNS: shown.count(row["turn_count"]),
        words.FACT_INTERRUPTIONS: shown.count(row["interruption_count"]),
        words.FACT_TOKENS: shown.count(row["total_tokens"]),
    }.items():
        _same(f"page of {row['session_id']}", title, page.facts.get(title), wanted)
    said = catalog.query("SELECT text FROM turns WHERE session_id = ?", [row["session_id"]])["text"].drop_nulls()
    missing = [text for text in said if text not in page.text]
    if missing:
        raise DemoError(f"page of {row['session_id']} does not show {missing[0]!r}")
    return f"session page: facts and {len(said)} turns of {row['session_id']}"


def _same(place: str, name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DemoError(f"{place}: {name} is {found!r}, the store says {wanted!r}")


class _Site:
    """The service, and the token it may need."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        token = parts.query.removeprefix("token=")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def json(self, path: str) -> Row:
        return dict(json.loads(self._get(path)))

    def page(self, path: str) -> _Page:
        page = _Page()
        page.feed(self._get(path).decode())
        return page

    def _get(self, path: str) -> bytes:
        try:
            request = Request(self._base + path, headers=self._headers)  # noqa: S310  our own service
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  same
                return bytes(answer.read())
        except (URLError, TimeoutError) as error:
            raise DemoError(f"{path}: {error}") from error


class _Page(HTMLParser):
    """What a dashboard page shows: tiles by title, facts by title, cells of session rows, and all its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.rows: dict[str, list[str]] = {}
        self._texts: list[str] = []
        self._inside: list[str] = []
        self._title = ""
        self._row: list[str] = []

    @property
    def text(self) -> str:
        """All text, white space as one blank."""
        return " ".join("".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note which element the next text is in."""
        given = dict(attrs)
        self._inside.append("value" if "value" in (given.get("class") or "").split() else tag)
        if tag == "tr":
            key = given.get("data-key")
            self._row = self.rows.setdefault(key, []) if key else []

    def handle_data(self, data: str) -> None:
        """Put a text where it belongs."""
        self._texts.append(data)
        text, inside = data.strip(), self._inside[-2:]
        if not text:
            return
        if {"h2", "dt"} & set(inside):
            self._title = text
        elif "value" in inside[-1:]:
            self.tiles.setdefault(self._title, text)
        elif "dd" in inside:
            self.facts.setdefault(self._title, text)
        elif {"td", "th"} & set(inside):
            self._row.append(text)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element; void ones, which never end, go with it."""
        names = [tag, "value"] if tag == "p" else [tag]
        while self._inside and self._inside.pop() not in names:
            pass
