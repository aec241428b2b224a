"""Which requests begin a call, and the request that joins it."""

import pytest

from recorder.proxy.calls import Call, call_begun, may_begin_a_call
from recorder.proxy.http import Request, Response
from recorder.proxy.routes import Route
from recorder.proxy.upstream import Upstream

ROUTE = Route(name="r", upstream=Upstream.parse("wss://up.test"))


def begun(
    target: str, *, location: str | None = None, status: int = 201, headers: tuple[tuple[str, str], ...] = ()
) -> Call | None:
    request = Request("POST", target, [("Host", "a"), *headers], b"")
    answer = Response(status, [] if location is None else [("LOCATION", location)], b"", b"")
    return call_begun(request, answer, ROUTE, "app", address="192.0.2.1:9") if may_begin_a_call(request) else None


@pytest.mark.parametrize(
    ("target", "location", "joins"),
    [
        ("/v1/realtime/calls", "/v1/realtime/calls/rtc_1", "/v1/realtime?call_id=rtc_1"),
        ("/v1/realtime/calls", "https://api.openai.com/v1/realtime/calls/rtc_1?x=y", "/v1/realtime?call_id=rtc_1"),
        ("/v1/realtime/calls/?model=gpt-realtime", "calls/rtc_1/", "/v1/realtime?call_id=rtc_1"),
        ("/realtime/calls", "/v1/realtime/calls/rtc_1", "/realtime?call_id=rtc_1"),
        ("/openai/v1/realtime/calls?api-key=k%20&webrtcfilter=on&Model=m&call_id=x", "/calls/rtc_1",
         "/openai/v1/realtime?call_id=rtc_1&api-key=k%20&webrtcfilter=on"),
        ("/v1/realtime/calls/rtc_u0_9/accept", None, "/v1/realtime?call_id=rtc_u0_9"),
        ("/v1/realtime/calls/rtc_u0_9/accept", "/v1/realtime/calls/other", "/v1/realtime?call_id=rtc_u0_9"),
    ],
)  # fmt: skip
def test_what_begins_a_call(target: str, location: str | None, joins: str) -> None:
    call = begun(target, location=location)
    assert call is not None
    assert (call.request.method, call.request.target, call.request.rest) == ("GET", joins, b"")
    assert call.request.target.partition("call_id=")[2].partition("&")[0] == call.call_id
    assert (call.route, call.client_name, call.address) == (ROUTE, "app", "192.0.2.1:9")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/realtime/callsx", "/v1/realtime/calls/rtc_1/hangup", "/v1/realtime/calls/rtc_1/reject",
        "/v1/realtime/calls/rtc_1", "/v1/calls", "/v1/xrealtime/calls", "/v1/realtime/client_secrets", "/",
    ],
)  # fmt: skip
def test_what_does_not(target: str) -> None:
    assert begun(target, location="/v1/realtime/calls/rtc_1") is None


def test_only_a_post_does() -> None:
    assert not may_begin_a_call(Request("GET", "/v1/realtime/calls", [], b""))


@pytest.mark.parametrize("status", [100, 301, 400, 401, 404, 429, 500])
def test_a_call_that_was_refused_is_none(status: int) -> None:
    assert begun("/v1/realtime/calls", location="/v1/realtime/calls/rtc_1", status=status) is None


@pytest.mark.parametrize(
    "location",
    [None, "", "/", "/v1/realtime/calls", "/v1/realtime/calls/", "/calls/a&model=b", "/calls/a%0d%0aX", "/calls/a b",
     "/calls/" + "x" * 257, "/calls/é"],
)  # fmt: skip
def test_a_name_that_could_be_anything_else_is_none(location: str | None) -> None:
    assert begun("/v1/realtime/calls", location=location) is None


def test_what_goes_along() -> None:
    kept = (
        ("authorization", "Bearer ek_1"), ("api-key", "k"), ("OpenAI-Organization", "org"), ("OpenAI-Beta", "x"),
        ("User-Agent", "app/1"), ("X-Consent", "no-audio"), ("X-Recorder-Label-Tenant", "t"), ("Cookie", "c"),
    )  # fmt: skip
    left = (
        ("Content-Type", "application/sdp"), ("Content-Length", "9"), ("Transfer-Encoding", "chunked"), ("Accept", "*"),
        ("Accept-Encoding", "gzip"), ("Connection", "keep-alive"), ("Upgrade", "h2c"), ("Origin", "https://app.test"),
        ("Sec-Fetch-Mode", "cors"), ("Sec-WebSocket-Protocol", "x"), ("Expect", "100-continue"), ("TE", "trailers"),
    )  # fmt: skip
    call = begun("/v1/realtime/calls", location="/calls/rtc_1", headers=kept + left)
    assert call is not None
    assert call.request.headers == [("Host", "a"), *kept]
