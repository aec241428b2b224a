"""The load side as seen from here: start it, follow its phases, take its result."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from benchmarks.build import Toolbox
from benchmarks.processes import BenchmarkError, pinned

Mode = Literal["pingpong", "voice", "flood-up", "flood-down", "idle"]

CLIENT_MESSAGES_A_SECOND: Final = 50
SERVER_MESSAGES_A_SECOND: Final = 2 / 0.182


class Latency(msgspec.Struct):
    """Of messages made inside the window. Microseconds, from making a message to having read all of it."""

    count: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float


class Tally(msgspec.Struct):
    """One direction's messages: of the whole run, and those received inside the window."""

    sent: int
    received: int
    misordered: int
    window_messages: int
    window_bytes: int


class Outcome(msgspec.Struct):
    """What the load side saw.

    Attributes:
        sessions: opened in all.
        broken: of them, ended by something else than our close.
        failed: attempts to open one that failed.
        skipped: messages not sent because the connection was far behind.
        window_seconds: length of the measured window.
        load_cpu_seconds: the load side's own CPU time in it.
        up: from client to upstream.
        down: from upstream to client.
        latency_up: one way, as the next; in ping-pong, `latency_down` is the round trip.
        latency_down: one way.
        latency: both together.
        lateness: of the clients' schedule; large values mean that the load side was overloaded.
    """

    sessions: int
    broken: int
    failed: int
    skipped: int
    window_seconds: float
    load_cpu_seconds: float
    up: Tally
    down: Tally
    latency_up: Latency
    latency_down: Latency
    latency: Latency
    lateness: Latency

    @property
    def lost(self) -> int:
        """Messages that were sent and did not arrive, or not in their order, or could not be sent."""
        late = sum(tally.sent - tally.received + tally.misordered for tally in (self.up, self.down))
        return late + self.skipped


class _Phase(msgspec.Struct):
    phase: str


@dataclass(frozen=True)
class Traffic:
    """What the load side is to do.

    Attributes:
        mode: the kind of session.
        sessions: at once.
        seconds: the window.
        warmup: seconds before it.
        drain: seconds to wait for what is still on its way afterwards.
        churn: seconds a session lasts, about, before another takes its place; 0 for ever.
        reconnect: open a session anew where one broke.
    """

    mode: Mode
    sessions: int
    seconds: float
    warmup: float = 1.0
    drain: float = 5.0
    churn: float = 0.0
    reconnect: bool = False


class Load:
    """The load side, from its start until the block ends.

    Args:
        tools: where the program lies.
        traffic: what it does.
        core: where it runs.
        ports: the upstream's, plain and TLS.
        target: where its clients connect to.
        target_tls: whether they speak TLS (where there is no proxy in between).
        record: a file for what each session sent and received.
        real_time: with real-time priority.
    """

    def __init__(
        self,
        tools: Toolbox,
        traffic: Traffic,
        *,
        core: int,
        ports: tuple[int, int],
        target: int,
        target_tls: bool,
        record: Path,
        real_time: bool = False,
    ) -> None:
        self.record = record
        command: list[object] = [
            *(*pinned(core, real_time=real_time), tools.load, "--mode", traffic.mode),
            *("--port", ports[0], "--tls-port", ports[1], "--certificate", tools.certificate, "--key", tools.key),
            *("--target-port", target, "--sessions", traffic.sessions, "--warmup", traffic.warmup),
            *("--seconds", traffic.seconds, "--drain", traffic.drain, "--churn", traffic.churn, "--record", record),
            *(("--target-tls",) if target_tls else ()),
            *(("--reconnect",) if traffic.reconnect else ()),
        ]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def wait_for(self, phase: str) -> None:
        """Return when the load side says that it is there: ready, begin, end.

        Raises:
            BenchmarkError: it ended before.
        """
        assert msgspec.json.decode(self._line(), type=_Phase).phase == phase

    def outcome(self) -> Outcome:
        """Its result, when it is done."""
        outcome = msgspec.json.decode(self._line(), type=Outcome)
        self._process.wait()
        return outcome

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if line := self._process.stdout.readline():
            return line
        code = self._process.wait()
        words = self._process.stderr.read().decode(errors="replace").strip()
        raise BenchmarkError(f"the load side ended with code {code}: {words}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
