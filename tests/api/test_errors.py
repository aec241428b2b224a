from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from recorder.errors import StoreError

LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    app = create_app(tmp_path_factory.mktemp("empty_store"))

    @app.get("/api/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    @app.get("/broken")
    def broken_page() -> None:
        raise ZeroDivisionError("secret detail")

    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=LOCAL) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api/v1/nope", 404, "not_found"),
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/static/x/nope.js", 404, "not_found"),
        ("POST", "/api/v1/sessions", 405, "method_not_allowed"),
        ("GET", "/api/v1/sessions/0000", 404, "session_not_found"),
        ("GET", "/api/v1/sessions/last/events/7", 404, "session_not_found"),
        ("GET", "/api/v1/sessions?limit=0", 422, "invalid_request"),
        ("GET", "/api/v1/sessions?limit=99999999999999999999", 422, "invalid_request"),
        ("GET", "/api/v1/sessions?since=yesterday", 422, "invalid_request"),
        ("GET", "/api/v1/sessions?sort=drop%20table", 422, "invalid_request"),
        ("GET", "/api/v1/sessions/x/events?direction=up", 422, "invalid_request"),
        ("GET", "/sessions?page=0", 422, "invalid_request"),
        ("GET", "/figures/nope", 422, "invalid_request"),
        ("GET", "/api/v1/broken", 500, "internal_error"),
    ],
)
def test_one_body_for_every_failure(client: TestClient, method: str, path: str, status: int, kind: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"type", "message", "hint"}
    assert answer.json()["error"]["type"] == kind


def test_a_message_names_the_parameter(client: TestClient) -> None:
    assert client.get("/api/v1/sessions?limit=0").json()["error"]["message"].startswith("limit: ")


def test_defects_of_ours_tell_no_details_and_are_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.get("/api/v1/broken")
    assert "secret" not in answer.text
    assert "ZeroDivisionError: secret detail" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/nope", 404), ("/sessions/0000", 404), ("/broken", 500)])
def test_people_get_a_page_with_the_same_words(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path, headers={"Accept": "text/html,*/*"})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "Back to the overview" in answer.text


def test_what_was_asked_for_is_escaped_on_the_page(client: TestClient) -> None:
    page = client.get("/sessions/<img src=x onerror=alert(1)>", headers={"Accept": "text/html"}).text
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_the_api_answers_json_even_to_a_browser(client: TestClient) -> None:
    answer = client.get("/api/v1/nope", headers={"Accept": "text/html"})
    assert answer.headers["content-type"] == "application/json"


def test_without_a_data_directory_there_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        create_app(tmp_path / "none")
