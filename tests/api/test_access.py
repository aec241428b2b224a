from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.access import COOKIE, SECURITY_HEADERS, cookie_value, is_loopback_name
from api.app import create_app

TOKEN = "correct horse battery staple"
LOCAL = "http://127.0.0.1"
PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty_store")


@pytest.fixture(scope="module")
def guarded(data_dir: Path) -> Iterator[TestClient]:
    with TestClient(create_app(data_dir, token=TOKEN), base_url="http://recorder.example") as client:
        yield client


@pytest.fixture(scope="module")
def local(data_dir: Path) -> Iterator[TestClient]:
    with TestClient(create_app(data_dir), base_url=LOCAL) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_cookies(guarded: TestClient) -> None:
    guarded.cookies.clear()


@pytest.mark.parametrize(
    "path", ["/", "/sessions", "/api/v1/sessions", "/api/v1/openapi.json", "/static/x/app.css", "/nope"]
)
def test_everything_but_health_needs_the_token(guarded: TestClient, path: str) -> None:
    refused = guarded.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["type"] == "unauthorized"
    assert guarded.get("/healthz").status_code == 200


def test_a_bearer_token_opens(guarded: TestClient) -> None:
    assert guarded.get("/api/v1/sessions", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/api/v1/sessions", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer caf\xe9"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}=\x7f; =;"},
    ],
)
def test_anything_else_does_not(guarded: TestClient, headers: dict[str, str]) -> None:
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    assert guarded.get("/api/v1/sessions", headers=raw).status_code == 401
    assert guarded.get("/api/v1/sessions?token=wrong").status_code == 401
    assert guarded.get("/api/v1/sessions?token=").status_code == 401


def test_a_link_with_the_token_becomes_a_cookie_and_leaves_the_address(guarded: TestClient) -> None:
    greeting = guarded.get(f"/sessions?token={TOKEN}&q=a%26b", headers=PAGE)
    assert 'content="0; url=/sessions?q=a%26b"' in greeting.text
    assert TOKEN not in greeting.text
    cookie = greeting.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/sessions", headers=PAGE).status_code == 200
    assert guarded.cookies[COOKIE] == cookie_value(TOKEN)


def test_a_link_never_leads_to_another_site(guarded: TestClient) -> None:
    assert (
        'url=/evil.example/"' in guarded.get(f"http://recorder.example//evil.example/?token={TOKEN}", headers=PAGE).text
    )


@pytest.mark.parametrize("path", ["/%5Cevil.example/", "/%09/evil.example/", "/%0A/evil.example", "/\\/evil.example"])
def test_the_page_that_takes_the_token_away_leads_to_no_other_site(guarded: TestClient, path: str) -> None:
    """Browsers take a backslash for a slash, and leave tabs and line ends out."""
    page = guarded.get(f"http://recorder.example{path}?token={TOKEN}", headers=PAGE).text
    target = page.partition("url=")[2].partition('"')[0]
    assert target.isascii()
    assert target.isprintable()
    assert target[0] == "/"
    assert target[1] not in "/\\"


def test_programs_may_use_the_link_too(guarded: TestClient) -> None:
    assert guarded.get(f"/api/v1/sessions?token={TOKEN}").json()["total"] == 0


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("localhost:1", True),
        ("LOCALHOST", True),
        ("[::1]:8080", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("[::1].evil.example", True),  # no browser sends it: the name would not parse
        ("", False),
        ("0.0.0.0:8080", False),
    ],
)
def test_only_this_machines_names_are_ours(host: str, ours: bool) -> None:
    assert is_loopback_name(host) is ours


def test_names_that_others_point_at_this_machine_are_refused(local: TestClient) -> None:
    assert local.get("/api/v1/sessions").status_code == 200
    refused = local.get("/api/v1/sessions", headers={"Host": "evil.example"})
    assert refused.status_code == 421
    assert refused.json()["error"]["type"] == "unknown_host"
    assert local.get("/healthz", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/api/v1/sessions", "/nope", "/api/v1/nope", "/static/x/app.js"])
def test_every_answer_carries_the_security_headers(local: TestClient, path: str) -> None:
    answer = local.get(path)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "no-store" in answer.headers["Cache-Control"] or path.startswith("/static/")
