"""How long after a message went over the wire SQL finds it: a proxy, the simulator, a client, and an open catalog."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Final

from websockets.sync.client import ClientConnection, connect

from benchmarks.candidates import RECORDER
from benchmarks.processes import BenchmarkError, Running, free_ports
from recorder.pipeline.catalog import Catalog

_PROBES: Final = 40
_PAUSE_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 15.0
_FIND: Final = "SELECT count(*) FROM events WHERE event_id = ?"


def wire_to_sql(probes: int = _PROBES) -> list[float]:
    """Seconds from before a client sent a message until a query over the view `events` gave it, one after the other.

    The looks in between come without pause, each with a `refresh`: what they take is part of it.
    """
    listen, upstream = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="recorder-scale-") as folder:
        room, data = Path(folder), Path(folder) / "data"
        server = [*RECORDER, "simulate", "--listen", f"127.0.0.1:{upstream}"]
        proxy = [*RECORDER, "proxy", "--listen", f"127.0.0.1:{listen}", "--upstream", f"ws://127.0.0.1:{upstream}"]
        with (
            Running(server, core=1, log=room / "simulator.log", listens=upstream),
            Running([*proxy, "--data", str(data)], core=1, log=room / "proxy.log", listens=listen),
            connect(f"ws://127.0.0.1:{listen}/v1/realtime?model=gpt-realtime") as client,
            Catalog(data, keep=True) as catalog,
        ):
            return [_probe(client, catalog, f"probe-{number}") for number in range(probes)]


def _probe(client: ClientConnection, catalog: Catalog, name: str) -> float:
    time.sleep(_PAUSE_SECONDS)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
    message = json.dumps({"type": "conversation.item.create", "event_id": name, "item": item})
    began = time.perf_counter()
    client.send(message)
    while not catalog.query(_FIND, [name]).item():
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            raise BenchmarkError(f"{name} is not found after {_PATIENCE_SECONDS:g} s")
        catalog.refresh()
    return time.perf_counter() - began
