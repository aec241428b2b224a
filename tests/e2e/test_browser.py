"""The pages as a reader meets them: in a browser, with the network watched and the recorded content hostile."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

from api.app import create_app

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 20_000
MAPS_NOTICE = "Applying inline style violates"
"""Plotly's script brings a style for maps, which our policy refuses; no page of ours has a map."""


@contextmanager
def serving(data_dir: Path, token: str | None = None) -> Iterator[str]:
    """The service in a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(create_app(data_dir, token=token), log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield launched
    launched.close()


@pytest.fixture(scope="module")
def site(sample_store: Any) -> Iterator[str]:
    with serving(sample_store.data_dir) as url:
        yield url


class Watched:
    """A page, and all that it asked for, said and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        page.on("dialog", lambda dialog: self._complain(f"dialog {dialog.message}", dialog))
        page.on("pageerror", lambda error: self.complaints.append(f"error {error}"))
        page.on("console", self._heard)

    def _complain(self, text: str, dialog: Any) -> None:
        self.complaints.append(text)
        dialog.dismiss()

    def _heard(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(said.text)

    def open(self, address: str) -> Page:
        self.page.goto(address)
        for figure in self.page.locator("[data-figure]:visible").all():
            figure.locator(".main-svg").first.wait_for()
        return self.page

    def check(self) -> None:
        """Nothing was asked of the world outside, and nothing went wrong."""
        assert self.hosts <= {"127.0.0.1"}
        assert [text for text in self.complaints if MAPS_NOTICE not in text] == []


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests: its cache spares them reading Plotly's script again and again."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as made:
        yield made


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Watched]:
    with context.new_page() as page:
        made = Watched(page)
        yield made
        made.check()


def test_the_overview_shows_the_truth(watched: Watched, site: str) -> None:
    page = watched.open(f"{site}/?period=24h")
    tiles = {
        tile.locator("h2").inner_text(): tile.locator(".value").inner_text() for tile in page.locator(".tile").all()
    }
    assert tiles["Sessions"] == "2"
    assert tiles["First audio"] == "323 ms p50"
    assert tiles["Interruptions"] == "1"
    assert tiles["Tokens"] == "300"
    assert page.locator("#figure-sessions .bars .point").count() == 2
    assert page.locator("#figure-latency .scatterlayer .point").count() >= 1
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.locator(".tile .value").first).to_have_text("3")


def test_the_session_page_shows_the_truth(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions/{sample_store.voice}")
    expect(page.locator("h1")).to_have_text("sess_voice")
    assert page.locator(".entry.assistant .said p").first.inner_text().startswith("Your parcel arrives")
    assert page.locator(".unheard").count() == 1
    names = page.evaluate("document.getElementById('figure-timeline').data.map((trace) => trace.name)")
    assert {"User speech", "Heard", "Generated, unheard", "Interruption"} <= set(names)
    row = page.locator("#responses tbody tr").first.inner_text().split()
    assert row[:3] == ["1", "cancelled", "turn_detected"]
    assert row[-6:] == ["200", "64", "32", "%", "100", "$0.007410"]


def test_the_call_is_loaded_and_played_when_asked_for(watched: Watched, site: str, sample_store: Any) -> None:
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    page = watched.open(f"{site}/sessions/{sample_store.voice}")
    player = page.locator("audio")
    assert not any("/audio" in url for url in asked)
    player.evaluate("(audio) => { audio.muted = true; return audio.play(); }")
    assert 2 < player.evaluate("(audio) => audio.duration") < 6
    player.evaluate("(audio) => new Promise((done) => { audio.onseeked = done; audio.currentTime = 1.5; })")
    assert player.evaluate("(audio) => audio.error") is None
    player.focus()
    expect(player).to_be_focused()


def test_a_click_on_the_timeline_finds_the_event(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions/{sample_store.voice}")
    page.mouse.click(*place_of(page, "Interruption"))
    picked = page.locator(".event.picked")
    expect(picked.locator(".type")).to_have_text("input_audio_buffer.speech_started")
    expect(picked.locator("pre")).to_contain_text('"audio_start_ms": 2000')
    page.locator(".entry.assistant .place").first.click()
    expect(picked.locator(".type")).to_have_text("response.output_item.added")


def place_of(page: Page, trace: str) -> tuple[float, float]:
    """Where on the screen the first thing of a trace is drawn."""
    page.locator("#figure-timeline").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """(name) => {
            const figure = document.getElementById("figure-timeline");
            const { xaxis, yaxis } = figure._fullLayout;
            const trace = figure.data.find((each) => each.name === name);
            const edge = figure.getBoundingClientRect();
            const x = trace.type === "bar" ? trace.base[0] + trace.x[0] / 2 : trace.x[0];
            return [edge.left + xaxis._offset + xaxis.c2p(x), edge.top + yaxis._offset + yaxis.c2p(trace.y[0])];
        }""",
        trace,
    )
    return x, y


def test_events_are_filtered_and_opened(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions/{sample_store.voice}")
    events = page.locator(".event")
    expect(events.first).to_contain_text("recorder.session_opened")
    assert page.locator(".event .type", has_text=".delta").count() == 0
    page.get_by_label("Audio chunks and deltas").check()
    page.locator(".event .type", has_text="input_audio_buffer.append").first.wait_for()
    page.locator("[name=type]").select_option("conversation.item.truncate")
    expect(events).to_have_count(1)
    events.first.locator("summary").press("Enter")
    expect(events.first.locator("pre")).to_contain_text('"audio_end_ms": 600')
    page.locator("[name=direction]").select_option("server")
    expect(page.get_by_text("No events fit.")).to_be_visible()


@pytest.fixture(scope="module")
def troubled(troubled_store: Path) -> Iterator[str]:
    with serving(troubled_store) as url:
        yield url


def test_findings_appear_and_lead_to_their_events(watched: Watched, troubled: str) -> None:
    page = watched.open(f"{troubled}/sessions/sess_troubled")
    finding = page.locator("#findings .finding", has_text="The server dropped old turns")
    expect(finding).to_contain_text("about 3150 tokens of the conversation were dropped")
    assert page.locator("#findings .badge").first.inner_text() == "Errors: 3"
    finding.get_by_role("link", name="Event 20").press("Enter")
    expect(page.locator(".event.picked .type")).to_have_text("response.created")
    assert page.url.endswith("#event-20")
    page.locator("#errors-title").scroll_into_view_if_needed()
    page.get_by_role("link", name="conversation.item.delete").click()
    expect(page.locator(".event.picked .type")).to_have_text("conversation.item.delete")


def test_findings_of_many_sessions_lead_to_one_of_them(watched: Watched, troubled: str) -> None:
    page = watched.open(f"{troubled}/?period=24h")
    finding = page.locator("#findings .finding", has_text="A tool call that was never answered")
    finding.get_by_role("link", name="sess_troubled").click()
    expect(page.locator(".event.picked .type")).to_have_text("response.function_call_arguments.done")


def test_what_went_wrong_tells_itself_when_it_is_looked_at(watched: Watched, troubled: str) -> None:
    page = watched.open(f"{troubled}/sessions/sess_troubled")
    page.locator("#findings .finding").first.wait_for()
    for trace, text in {"Error": "no such item", "Turns dropped": "3\u202f150 tokens", "Stall": "silence"}.items():
        page.mouse.move(*place_of(page, trace))
        expect(page.locator(".hoverlayer .hovertext").first).to_contain_text(text)
        page.mouse.move(0, 0)


def test_where_nothing_is_found_the_panel_says_so(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions/{sample_store.typed}")
    expect(page.locator("#findings")).to_contain_text("Nothing found.")


def test_an_address_leads_to_an_event(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions/{sample_store.voice}#event-7")
    expect(page.locator(".event.picked .number")).to_have_text("7")


@pytest.mark.parametrize("path", ["/", "/sessions", "/sessions?q=%3Cimg", "/sessions/sess_typed", "/findings"])
def test_hostile_content_stays_text(watched: Watched, site: str, path: str) -> None:
    page = watched.open(site + path)
    allowed = {"app.js", "plotly.js"}
    scripts = page.evaluate("[...document.scripts].map((script) => script.src.split('/').pop())")
    assert set(scripts) <= allowed
    assert page.locator("img:not([src*='mark.svg'])").count() == 0
    assert page.locator("main :is(b, u, i, s, h1 *, script)").count() == page.locator("h1 bdi").count()
    assert page.locator("a[href^='javascript']").count() == 0


def test_hostile_content_stays_text_when_it_is_looked_at(watched: Watched, site: str) -> None:
    page = watched.open(f"{site}/sessions/sess_typed")
    for trace in ("Typed turn", "Tool runs", "Error"):
        page.mouse.move(*place_of(page, trace))
        page.locator(".hoverlayer .hovertext").first.wait_for()
        assert page.locator(".hoverlayer :is(a, [style*=javascript])").count() == 0
        page.mouse.move(0, 0)
    for details in page.locator("details").all():
        details.locator("summary").click()
    expect(page.locator(".event pre").last).not_to_have_text("…")
    assert page.locator("pre :not(bdi)").count() == 0
    expect(page.locator(".entry.user .said p").first).to_contain_text("<img src=x onerror=")


def test_a_running_session_grows_before_the_readers_eyes(
    watched: Watched, running_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.store.REFRESH_SECONDS", 0.0)
    data_dir, running = running_session
    with serving(data_dir) as url:
        page = watched.open(f"{url}/sessions/sess_live")
        expect(page.locator(".badge")).to_have_text("Live")
        page.evaluate("window.stays = true")
        left, right = zoom(page)
        item = {"id": "item_1", "type": "message", "role": "user", "status": "completed"}
        item["content"] = [{"type": "input_text", "text": "Are you there?"}]  # type: ignore[assignment]
        running.server("conversation.item.added", item=item, previous_item_id=None)
        expect(page.locator(".entry.user .said")).to_contain_text("Are you there?")
        expect(page.locator(".event .type").last).to_have_text("conversation.item.added")
        running.server("response.created", response={"id": "resp_1", "status": "in_progress"})
        expect(page.locator("#responses tbody tr")).to_contain_text("in_progress")
        expect(page.locator("#figure-timeline .barlayer .trace")).to_have_count(2)
        assert visible(page) == pytest.approx((left, right))
        assert page.evaluate("window.stays")
        page.goto(f"{url}/sessions")
        expect(page.locator("tr", has_text="sess_live").locator(".badge")).to_have_text("Live")
        page.goto("about:blank")  # no poll is under way when the server goes


def zoom(page: Page) -> tuple[float, float]:
    """Drag over a part of the timeline; the range that it then shows."""
    box = page.locator("#figure-timeline .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 40, steps=5)
    page.mouse.up()
    expect(page.locator("#figure-timeline .xtick text").first).not_to_have_text("0 s")
    return visible(page)


def visible(page: Page) -> tuple[float, float]:
    left, right = page.evaluate("document.getElementById('figure-timeline')._fullLayout.xaxis.range")
    return left, right


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_follow_the_readers_colours(watched: Watched, site: str, scheme: Any) -> None:
    watched.page.emulate_media(color_scheme=scheme)
    for path in ("/?period=all", "/sessions", "/sessions/sess_typed"):
        page = watched.open(site + path)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(15, 19, 25)") is (scheme == "dark")
        for width in (1400, 768, 420, 360):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_keyboard_reaches_everything(watched: Watched, site: str, sample_store: Any) -> None:
    page = watched.open(f"{site}/sessions")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="sess_voice").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/sessions/{sample_store.voice}")


def test_controls_have_names(watched: Watched, site: str) -> None:
    for path in ("/sessions", "/sessions/sess_voice"):
        page = watched.open(site + path)
        for control in page.locator("input:not([type=hidden]), select").all():
            assert control.evaluate("(element) => element.labels.length") == 1


def test_a_link_with_the_token_opens_the_door_once(watched: Watched, sample_store: Any) -> None:
    with serving(sample_store.data_dir, token="only for friends") as url:
        refused = watched.page.goto(url)
        assert refused is not None
        assert refused.status == 401
        expect(watched.page.locator("h1")).to_have_text("A token is needed")
        watched.page.goto(f"{url}/sessions?token=only%20for%20friends&q=parcel")
        watched.page.wait_for_url(f"{url}/sessions?q=parcel")
        expect(watched.page.locator("h1")).to_have_text("Sessions")
        assert watched.page.evaluate("document.cookie") == ""
        watched.complaints.clear()  # the browser notes the 401
        watched.page.goto("about:blank")
