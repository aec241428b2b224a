"""The states of a session that `fault_matrix` is about, and how to get there."""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tests.proxy.conftest import ACCEPT, UPGRADE
from tests.proxy.fault_acts import no_such_name
from tests.proxy.fault_stage import REFUSAL, Gate, Stage, hear

HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
HALF_A_FRAME: Final = b"\x82\x7e\x01\x00" + b"half of it"


class State(NamedTuple):
    """A state of the proxy's session: how to get there, and from there to an open session."""

    reach: Callable[[Stage], None]
    go_on: Callable[[Stage], None]
    client_tls: bool = False
    upstream_tls: bool = False
    settings: Mapping[str, Any] = {}
    ends: bool = False  # going on from there is the end


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


def _hinted(stage: Stage) -> None:
    _steps("connect", "ask", "accept", "take_request")(stage)
    stage.answer(HINTS)
    assert stage.there.recv(len(HINTS), socket.MSG_WAITALL) == HINTS
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
    no_such_name(stage)
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
    "interim answer passed on": State(_hinted, _steps(*_answered)),
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
