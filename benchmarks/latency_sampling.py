"""What sampling the added latency costs a splice: chunks through a plain splice, with and without it, interleaved.

    python benchmarks/latency_sampling.py

Prints the median time a chunk takes through a splice (read, tap into a ring, write, on a pair of Unix sockets) in both
forms, and their difference in percent.
"""

# ruff: noqa: SLF001 - it looks into the splice, and must not change it

from __future__ import annotations

import asyncio
import inspect
import socket
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.protocol.envelope import RecordKind
from recorder.proxy import splice as module
from recorder.proxy.overhead import Overhead
from recorder.proxy.selector import READ, SpliceSelector
from recorder.proxy.splice import SAMPLE_EVERY, Splice
from recorder.proxy.tap import Tap
from recorder.store.counters import Counters
from recorder.store.ring import RingWriter
from recorder.store.ring_reader import RingReader

CHUNKS, ROUNDS, SIZE = 2000, 200, 1300
_SAMPLING = ("nonlocal until_sample", "until_sample ", "began = ", "if not until_sample:", "self._observe(")


def without_sampling() -> Any:
    """The splice's `_forwarder` without the lines that sample."""
    lines = textwrap.dedent(inspect.getsource(Splice._forwarder)).splitlines()
    kept = [line for line in lines if not line.strip().startswith(_SAMPLING)]
    assert len(lines) - len(kept) == 7
    names: dict[str, Any] = {}
    exec("\n".join(kept), vars(module), names)
    return names["_forwarder"]


def run(forward: Callable[[int], None], near: socket.socket, far: socket.socket, reader: RingReader) -> float:
    """Nanoseconds a chunk."""
    data, spent = b"x" * SIZE, 0
    for _ in range(CHUNKS):
        near.send(data)
        began = time.perf_counter_ns()
        forward(READ)
        spent += time.perf_counter_ns() - began
        far.recv(SIZE)
    reader.release(reader.head)
    return spent / CHUNKS


async def main() -> None:
    """Measure and print."""
    near, client = socket.socketpair()
    upstream, far = socket.socketpair()
    for sock in (client, upstream):
        sock.setblocking(False)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        ring = RingWriter(Path(directory), 16 << 20)
        reader = RingReader(ring.path)
        splice = Splice(
            SpliceSelector(),
            client,
            upstream,
            tap=Tap(ring, 1),
            kinds=(RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES),
            on_end=lambda _: None,
            observe=Overhead(SAMPLE_EVERY, Counters().observe_latency).observe,
        )
        makers = {"without": without_sampling(), "with": Splice._forwarder}
        forms = {name: make(splice, splice._up) for name, make in makers.items()}
        times: dict[str, list[float]] = {name: [] for name in forms}
        for number in range(ROUNDS):
            for name in forms if number % 2 else reversed(forms):
                times[name].append(run(forms[name], near, far, reader))
        reader.close()
        ring.close()
    without, sampled = (statistics.median(times[name]) for name in forms)
    print(f"without {without:.0f} ns, with {sampled:.0f} ns a chunk: {sampled / without - 1:+.1%}")


if __name__ == "__main__":
    asyncio.run(main())
