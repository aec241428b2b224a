"""What becomes of a session in each state, whatever goes wrong: the table of `test_faults`.

A cell says what the client and the upstream see, and what is on record; or why there is no such case.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tests.proxy.conftest import ACCEPT, UPGRADE
from tests.proxy.fault_stage import REFUSAL, Gate, Stage, fill, half_close, hear, reset

HALF_A_FRAME: Final = b"\x82\x7e\x01\x00" + b"half of it"
GARBAGE: Final = b"\x00\xff garbage, not what was agreed on\r\n\r\n"
LONG_HEAD: Final = b"X-long: " + b"x" * 70_000
ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"  # TLS: handshake_failure


class Record(NamedTuple):
    """The end that is written down; `error` is part of what stands there, "" for no error."""

    closed_by: str
    status: int | None = None
    first_end: str | None = None
    error: str = ""
    close_code: int | None = None


class Cell(NamedTuple):
    """What comes of a fault in a state.

    Attributes:
        client: what the client sees: "408" and the like (an HTTP answer, then FIN), "fin", "reset", "end" (either),
            "1001" (a WebSocket Close, then FIN), or None where there is nobody to see it.
        upstream: likewise.
        record: the session's end on record; None: nothing is on record.
        goes_on: the session goes on, and can be brought to its regular end.
    """

    client: str | None = None
    upstream: str | None = None
    record: Record | None = None
    goes_on: bool = False


class State(NamedTuple):
    """A state of the proxy's session: how to get there, and from there to an open session."""

    reach: Callable[[Stage], None]
    go_on: Callable[[Stage], None]
    client_tls: bool = False
    upstream_tls: bool = False
    settings: Mapping[str, Any] = {}
    ends: bool = False  # going on from there is the end


# ── states ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _steps(*names: str) -> Callable[[Stage], None]:
    def walk(stage: Stage) -> None:
        for name in names:
            getattr(stage, name)()
        stage.settle()

    return walk


def _half_request(stage: Stage) -> None:
    stage.connect()
    stage.ask(UPGRADE[:60])
    stage.settle()


def _rest_of_request(stage: Stage) -> None:
    stage.ask(UPGRADE[60:])
    _steps("accept", "take_request", *_answered)(stage)


def _dialing(stage: Stage) -> None:
    stage.gate = Gate(stage.proxy)
    stage.connect()
    stage.ask()
    assert stage.gate.reached.wait(20)


def _dialed(stage: Stage) -> None:
    assert stage.gate is not None
    stage.gate.open()
    _steps("accept", "take_request", *_answered)(stage)


def _tls_begun(stage: Stage) -> None:
    _steps("connect", "ask", "accept")(stage)
    assert stage.here.recv(1, socket.MSG_PEEK) == b"\x16"


def _half_answer(stage: Stage) -> None:
    _steps("connect", "ask", "accept", "take_request")(stage)
    stage.answer(ACCEPT[:40])
    stage.settle()


def _rest_of_answer(stage: Stage) -> None:
    stage.answer(ACCEPT[40:])
    _steps("take_answer", "talk")(stage)


def _half_refusal(stage: Stage) -> None:
    _steps("connect", "ask", "accept", "take_request")(stage)
    stage.answer(REFUSAL + b"{" * 5)
    assert stage.there.recv(1 << 16) == REFUSAL + b"{" * 5
    stage.settle()


def _rest_of_refusal(stage: Stage) -> None:
    stage.said_up.clear()  # whatever it was, it is not passed on
    stage.answer(b"}" * 95)
    assert stage.there.recv(95, socket.MSG_WAITALL) == b"}" * 95
    assert hear(stage.there) == b""


def _refused(stage: Stage) -> None:
    _dialing(stage)
    _no_such_name(stage)
    assert hear(stage.there).startswith(b"HTTP/1.1 502")
    assert hear(stage.there) == b""


def _client_agrees(stage: Stage) -> None:
    stage.said_up.clear()  # nobody listened
    if not stage.client_ended:
        stage.end_client()


def _half_frame_up(stage: Stage) -> None:
    stage.open()
    stage.say_up(HALF_A_FRAME)
    stage.hear_up()


def _half_frame_down(stage: Stage) -> None:
    stage.open()
    stage.say_down(HALF_A_FRAME)
    stage.hear_down()


def _client_ended(stage: Stage) -> None:
    stage.open()
    stage.end_client()
    assert hear(stage.here) == b""


def _upstream_ended(stage: Stage) -> None:
    stage.open()
    stage.end_upstream()
    assert hear(stage.there) == b""


def _held_by_client(stage: Stage) -> None:
    stage.open()
    stage.flood(down=True)


def _held_by_upstream(stage: Stage) -> None:
    stage.open()
    stage.flood(down=False)


def _read_on(stage: Stage) -> None:
    stage.hear_down()
    stage.hear_up()
    stage.talk()


def _draining(stage: Stage) -> None:
    stage.open()
    stage.proxy.call(lambda worker: worker.stop())
    while stage.proxy.accepts():
        stage.settle()


_talk = _steps("talk")
_TLS: Final[dict[str, Any]] = {"client_tls": True, "upstream_tls": True}
_answered: Final = ("answer", "take_answer", "talk")

STATES: Final[dict[str, State]] = {
    "TLS from the client": State(
        _steps("connect"),
        _steps("secure_client", "ask", "accept", "take_request", *_answered),
        client_tls=True,
    ),
    "accepted": State(_steps("connect"), _steps("ask", "accept", "take_request", *_answered)),
    "request half read": State(_half_request, _rest_of_request),
    "dialing": State(_dialing, _dialed),
    "TLS to the upstream": State(_tls_begun, _steps("secure_upstream", "take_request", *_answered), upstream_tls=True),
    "upgrade sent": State(_steps("connect", "ask", "accept", "take_request"), _steps(*_answered)),
    "answer half read": State(_half_answer, _rest_of_answer),
    "refusal half passed on": State(_half_refusal, _rest_of_refusal, ends=True),
    "refused": State(_refused, _client_agrees, ends=True),
    "open": State(_steps("open"), _talk),
    "open, TLS": State(_steps("open"), _talk, **_TLS),
    "in a message up": State(_half_frame_up, _talk),
    "in a message down": State(_half_frame_down, _talk),
    "client half-closed": State(_client_ended, _talk),
    "client half-closed, TLS": State(_client_ended, _talk, **_TLS),
    "upstream half-closed": State(_upstream_ended, _talk),
    "upstream half-closed, TLS": State(_upstream_ended, _talk, **_TLS),
    "held back by the client": State(_held_by_client, _read_on),
    "held back by the upstream": State(_held_by_upstream, _read_on),
    "draining": State(_draining, _talk, settings={"drain_seconds": 20.0}),
}


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _client_resets(stage: Stage) -> None:
    reset(stage.there)
    stage.client = None


def _upstream_resets(stage: Stage) -> None:
    reset(stage.here)
    stage.upstream = None


def _client_ends(stage: Stage) -> None:
    stage.end_client()
    stage.settle()


def _upstream_ends(stage: Stage) -> None:
    stage.end_upstream()
    stage.settle()


def _upstream_hangs_up(stage: Stage) -> None:
    half_close(stage.here)


def _client_raves(stage: Stage) -> None:
    stage.say_up(GARBAGE)
    stage.settle()


def _upstream_raves(stage: Stage) -> None:
    stage.say_down(GARBAGE)
    stage.settle()


def _upstream_raves_in_a_head(stage: Stage) -> None:
    stage.answer(GARBAGE)


def _nobody_listens(stage: Stage) -> None:
    address = stage.server.getsockname()
    stage.server.close()
    assert stage.gate is not None
    stage.gate.open()
    stage.settle()
    assert stage.there.recv(1, socket.MSG_PEEK) == b"H"
    stage.reopen(address)


def _no_such_name(stage: Stage) -> None:
    assert stage.gate is not None
    stage.gate.open(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))


def _ring_fills(stage: Stage) -> None:
    stage.proxy.call(fill)


def _worker_stops(stage: Stage) -> None:
    stage.proxy.call(lambda worker: worker.stop())


def _nothing(stage: Stage) -> None:
    """What happens is that nothing does."""


FAULTS: Final[dict[str, Callable[[Stage], None]]] = {
    "silence": _nothing,
    "client resets": _client_resets,
    "client ends": _client_ends,
    "client sends garbage": _client_raves,
    "client sends an endless head": lambda stage: stage.there.sendall(LONG_HEAD),
    "upstream resets": _upstream_resets,
    "upstream ends": _upstream_ends,
    "upstream sends garbage": _upstream_raves,
    "upstream sends an endless head": lambda stage: stage.answer(LONG_HEAD),
    "upstream refuses the connection": _nobody_listens,
    "upstream refuses the upgrade": lambda stage: stage.answer(REFUSAL + b"{" * 100),
    "upstream refuses TLS": lambda stage: stage.here.sendall(ALERT),
    "upstream's name is unknown": _no_such_name,
    "ring is full": _ring_fills,
    "recorder is killed": Stage.kill_recorder,
    "disk is full": _nothing,  # the test takes care of the recorder
    "worker is stopped": _worker_stops,
}

SILENCE: Final[dict[str, Any]] = {
    "handshake_timeout_seconds": 0.5,
    "connect_timeout_seconds": 0.3,
    "idle_timeout_seconds": 0.2,
    "half_open_seconds": 0.1,
}
"""Settings for silent cells, so that limits are met soon."""


# ── what comes of it ──────────────────────────────────────────────────────────────────────────────────────────────

Row = dict[str, Cell | str]

ON: Final = Cell(goes_on=True, record=Record("lost", first_end="client"))
ON_UPSTREAM_ENDED: Final = Cell(goes_on=True, record=Record("lost", first_end="upstream"))
UNRECORDED: Final = Cell(goes_on=True)
STOPPED: Final = "the proxy stopped"
RESET: Final = "Connection reset by peer"
UNKNOWN_NAME: Final = Record("proxy", 502, error="Name or service not known")

UNCONNECTED: Final[Row] = dict.fromkeys(
    (
        "upstream resets",
        "upstream ends",
        "upstream sends garbage",
        "upstream sends an endless head",
        "upstream refuses the upgrade",
    ),
    "there is no connection to the upstream yet",
)
UNDIALED: Final[Row] = UNCONNECTED | dict.fromkeys(
    ("upstream refuses the connection", "upstream refuses TLS", "upstream's name is unknown"), "it was not dialed yet"
)
DIALED: Final[Row] = {
    "upstream refuses the connection": "it has accepted it",
    "upstream's name is unknown": "it is known by now",
}
NO_HANDSHAKE: Final[Row] = DIALED | {
    "client sends an endless head": "its head is over",
    "upstream sends an endless head": "its head is over",
    "upstream refuses the upgrade": "it has agreed to it",
    "upstream refuses TLS": "TLS stands, or is not spoken here",
}
RECORDER_AWAY: Final[Row] = {"recorder is killed": ON, "disk is full": ON}


def refused(status: int, error: str) -> Cell:
    return Cell(str(status), "end", Record("proxy", status, error=error))


def told(client: str = "1001", upstream: str = "1001") -> Cell:
    return Cell(client, upstream, Record("proxy", error=STOPPED, close_code=1001))


def lost(party: str, *, other: str = "reset") -> Cell:
    record = Record("lost", first_end=party, error=RESET)
    return Cell(None, other, record) if party == "client" else Cell(other, None, record)


WAITING_FOR_A_REQUEST: Final[Row] = (
    UNDIALED
    | RECORDER_AWAY
    | {
        "silence": Cell("408"),
        "client resets": Cell(),
        "client sends garbage": Cell("400"),
        "client sends an endless head": Cell("431"),
        "ring is full": UNRECORDED,
        "worker is stopped": Cell("fin"),
    }
)
WAITING_FOR_THE_UPSTREAM: Final[Row] = RECORDER_AWAY | {
    "client resets": lost("client", other="end"),
    "client ends": ON,
    "client sends garbage": ON,
    "client sends an endless head": "its head is over",
    "ring is full": ON,
    "worker is stopped": Cell("fin", "end", Record("proxy", error=STOPPED)),
}
READING_AN_ANSWER: Final[Row] = (
    WAITING_FOR_THE_UPSTREAM
    | DIALED
    | {
        "silence": refused(504, "did not answer in time"),
        "client resets": lost("client"),
        "upstream resets": Cell("502", None, Record("proxy", 502, error=RESET)),
        "upstream sends garbage": refused(502, "not HTTP"),
        "upstream sends an endless head": refused(502, "response head of the upstream is over"),
        "upstream refuses TLS": "TLS stands, or is not spoken here",
    }
)
OPEN: Final[Row] = (
    NO_HANDSHAKE
    | RECORDER_AWAY
    | {
        "silence": Cell("end", "end", Record("proxy", error="idle for")),
        "client resets": lost("client"),
        "client ends": ON,
        "client sends garbage": ON,
        "upstream resets": lost("upstream"),
        "upstream ends": ON_UPSTREAM_ENDED,
        "upstream sends garbage": ON,
        "ring is full": ON,
        "worker is stopped": told(),
    }
)
CLIENT_ENDED: Final[Row] = OPEN | {
    "silence": Cell("fin", "end", Record("lost", first_end="client", error="half-closed for")),
    "client ends": "it has",
    "client sends garbage": "it has ended",
    "client resets": lost("client"),
    "upstream resets": Cell("reset", None, Record("lost", first_end="client", error=RESET)),
    "upstream ends": ON,
    "worker is stopped": told(upstream="end"),
}
UPSTREAM_ENDED: Final[Row] = (
    OPEN
    | dict.fromkeys(
        ("ring is full", "recorder is killed", "disk is full", "client ends", "client sends garbage"), ON_UPSTREAM_ENDED
    )
    | {
        "silence": Cell("end", "fin", Record("lost", first_end="upstream", error="half-closed for")),
        "upstream ends": "it has",
        "upstream sends garbage": "it has ended",
        "client resets": Cell(None, "reset", Record("lost", first_end="upstream", error=RESET)),
        "upstream resets": lost("upstream"),
        "worker is stopped": told(client="end"),
    }
)

MATRIX: Final[dict[str, Row]] = {
    "TLS from the client": WAITING_FOR_A_REQUEST
    | {
        "silence": Cell("end"),
        "client ends": Cell("end"),
        "client sends garbage": Cell("end"),
        "client sends an endless head": "TLS comes before any head",
        "worker is stopped": Cell("end"),
    },
    "accepted": WAITING_FOR_A_REQUEST | {"client ends": Cell("fin")},
    "request half read": WAITING_FOR_A_REQUEST | {"client ends": Cell("400")},
    "dialing": WAITING_FOR_THE_UPSTREAM
    | UNCONNECTED
    | {
        "silence": Cell("504", None, Record("proxy", 504, error="no connection to")),
        "client resets": lost("client")._replace(upstream=None),
        "upstream refuses the connection": Cell("502", None, Record("proxy", 502, error="Connection refused")),
        "upstream refuses TLS": "that comes after dialing",
        "upstream's name is unknown": Cell("502", None, Record("proxy", 502, error="Name or service not known")),
        "worker is stopped": Cell("fin", None, Record("proxy", error=STOPPED)),
    },
    "TLS to the upstream": WAITING_FOR_THE_UPSTREAM
    | DIALED
    | {
        "silence": refused(504, "no connection to"),
        "upstream resets": Cell("502", None, Record("proxy", 502, error=RESET)),
        "upstream ends": refused(502, "TLS with"),
        "upstream sends garbage": refused(502, "TLS with"),
        "upstream sends an endless head": "TLS comes before any head",
        "upstream refuses the upgrade": "TLS comes before any answer",
        "upstream refuses TLS": refused(502, "TLS with"),
    },
    "upgrade sent": READING_AN_ANSWER
    | {
        "upstream ends": refused(502, "answered nothing"),
        "upstream refuses the upgrade": Cell("401", "end", Record("upstream", 401)),
    },
    "answer half read": READING_AN_ANSWER
    | {
        "upstream ends": refused(502, "answered garbage"),
        "upstream refuses the upgrade": "its status line says 101",
    },
    "refusal half passed on": NO_HANDSHAKE
    | dict.fromkeys(
        ("client ends", "client sends garbage", "ring is full", "recorder is killed", "disk is full"),
        Cell(goes_on=True, record=Record("upstream", 401)),
    )
    | {
        "silence": Cell("end", "end", Record("upstream", 401)),
        "client resets": Cell(None, "end", Record("upstream", 401)),
        "upstream resets": Cell("reset", None, Record("upstream", 401)),
        "upstream ends": Cell("fin", "end", Record("upstream", 401)),
        "upstream sends garbage": "a body may be anything",
        "upstream refuses the upgrade": "it has",
        "worker is stopped": Cell("end", "end", Record("upstream", 401)),
    },
    "refused": UNDIALED
    | dict.fromkeys(
        ("client ends", "client sends garbage", "ring is full", "recorder is killed", "disk is full"),
        Cell(goes_on=True, record=UNKNOWN_NAME),
    )
    | {
        "silence": Cell("fin", None, UNKNOWN_NAME),
        "client resets": Cell(None, None, UNKNOWN_NAME),
        "client sends an endless head": "its head is over",
        "worker is stopped": Cell("fin", None, UNKNOWN_NAME),
    },
    "open": OPEN,
    "open, TLS": OPEN,
    "in a message up": OPEN | {"worker is stopped": told(upstream="end")},
    "in a message down": OPEN | {"worker is stopped": told(client="end")},
    "client half-closed": CLIENT_ENDED,
    "client half-closed, TLS": CLIENT_ENDED,
    "upstream half-closed": UPSTREAM_ENDED,
    "upstream half-closed, TLS": UPSTREAM_ENDED,
    "held back by the client": OPEN
    | {
        "upstream sends garbage": "it cannot send: that is this state",
        "worker is stopped": told(client="end"),
    },
    "held back by the upstream": OPEN
    | {
        "client sends garbage": "it cannot send: that is this state",
        "worker is stopped": told(upstream="end"),
    },
    "draining": OPEN
    | {
        "silence": told(),
        "worker is stopped": ON,  # once is enough
    },
}
