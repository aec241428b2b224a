"""What may go wrong in any state: the faults of `fault_matrix`."""

import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec

from recorder.proxy.session import Session
from recorder.proxy.worker import Worker
from tests.proxy.fault_stage import REFUSAL, Stage, fill, half_close, reset

GARBAGE: Final = b"\x00\xff garbage, not what was agreed on\r\n\r\n"
LONG_HEAD: Final = b"X-long: " + b"x" * 70_000
ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"  # TLS: handshake_failure


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


def no_such_name(stage: Stage) -> None:
    assert stage.gate is not None
    stage.gate.open(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))


def _ring_fills(stage: Stage) -> None:
    stage.proxy.call(fill)


def _worker_stops(stage: Stage) -> None:
    stage.proxy.call(lambda worker: worker.stop())


def _nothing(stage: Stage) -> None:
    """What happens is that nothing does."""


def _silence(stage: Stage) -> None:
    """From now on nobody says anything, and the proxy has little patience. Before, getting here could use it up."""

    def lose_patience(worker: Worker) -> None:
        for session in () if worker._stopping.is_set() else worker._sessions:  # a drain has an end of its own
            assert isinstance(session, Session)
            session._config = msgspec.structs.replace(session._config, idle_timeout_seconds=0.2, half_open_seconds=0.1)

    stage.proxy.call(lose_patience)


FAULTS: Final[dict[str, Callable[[Stage], None]]] = {
    "silence": _silence,
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
    "upstream's name is unknown": no_such_name,
    "ring is full": _ring_fills,
    "recorder is killed": Stage.kill_recorder,
    "disk is full": _nothing,  # the test takes care of the recorder
    "worker is stopped": _worker_stops,
}


SILENCE: Final[dict[str, Any]] = {
    "handshake_timeout_seconds": 0.5,
    "connect_timeout_seconds": 0.3,
}
"""Settings for silent cells, so that limits are met soon."""
