"""The simulator: a WebSocket server whose connections play scripts."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from itertools import count, cycle
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from recorder.errors import ListenError
from recorder.simulator.connection import Connection
from recorder.simulator.script import Close, ErrorBody, Refusal, Script, load_script, packaged_names
from recorder.simulator.truth import Truth

SCRIPT_MODEL_PREFIX = "sim-"
"""`?model=sim-NAME` asks for the script NAME, for clients that can only choose a model."""

_CLOSE_SECONDS = 3  # a client that does not answer a close must not hold up the end for long
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


class Simulator:
    """A scripted Realtime server.

    A connection plays the script it names by `?script=NAME` or `?model=sim-NAME`; others take `script` (several: in
    turn). Only packaged scripts and those given here can be named, never a file of the server's.

    Args:
        script: the default script or scripts: packaged names, files, or `Script` objects.
        seed: makes ids, padding and jitter repeat; the n-th connection of a seed always gets the same. None: random.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        speed: divides all delays; voice detection and the logic of turns do not depend on it.
        truth_dir: where each connection's truth is written when it ends.
        keep_truths: whether `truths` keeps those of closed connections; a server that runs for days should not.
        compression: whether to accept permessage-deflate.
        ping_interval: seconds between pings to the client; None sends none.

    Attributes:
        truths: one for each connection, in order of arrival; complete once the connection is closed.

    Raises:
        ScriptError: a script is not valid.
    """

    def __init__(
        self,
        script: str | Path | Script | Sequence[str | Path | Script] = "default",
        *,
        seed: int | str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        truth_dir: Path | None = None,
        keep_truths: bool = True,
        compression: bool = True,
        ping_interval: float | None = 20.0,
    ) -> None:
        given = [script] if isinstance(script, str | Path | Script) else list(script)
        scripts = [one if isinstance(one, Script) else load_script(one) for one in given]
        self._scripts = {name: load_script(name) for name in packaged_names()} | {one.name: one for one in scripts}
        self._default = cycle(scripts)
        self._seed = str(seed if seed is not None else secrets.token_hex(4))
        self._host = host
        self._port = port
        self._speed = speed
        self._truth_dir = truth_dir
        self._keep_truths = keep_truths
        self._compression = compression
        self._ping_interval = ping_interval
        self._numbers = count(1)
        self._server: Server | None = None
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.truths: list[Truth] = []

    @property
    def url(self) -> str:
        """`ws://HOST:PORT/v1/realtime` of the running server."""
        assert self._server is not None
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        return f"ws://{f'[{host}]' if ':' in host else host}:{port}/v1/realtime"

    async def start(self) -> None:
        """Start to listen.

        Raises:
            ListenError: the address cannot be listened on.
        """
        if self._truth_dir is not None:
            self._truth_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._server = await serve(
                self._serve,
                self._host,
                self._port,
                select_subprotocol=_subprotocol,
                compression="deflate" if self._compression else None,
                ping_interval=self._ping_interval,
                max_size=None,
                close_timeout=_CLOSE_SECONDS,
                logger=_LOGGER,
            )
        except OSError as problem:
            raise ListenError(f"{self._host}:{self._port}", problem.strerror or str(problem)) from None

    async def stop(self) -> None:
        """Close all connections (1001) and stop to listen."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def idle(self) -> None:
        """Wait until no connection is open, so that all truths are complete."""
        await self._idle.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        script, model = self._choose(query)
        connection = Connection(
            socket, script, seed=self._seed, speed=self._speed, model=model, number=next(self._numbers)
        )
        self.truths.append(connection.truth)
        self._open += 1
        self._idle.clear()
        try:
            await connection.run()
        finally:
            if self._truth_dir is not None:
                connection.truth.write(self._truth_dir)
            if not self._keep_truths:
                self.truths.remove(connection.truth)
            self._open -= 1
            if not self._open:
                self._idle.set()

    def _choose(self, query: dict[str, list[str]]) -> tuple[Script, str | None]:
        """The script a connection plays, and the model it asked for."""
        model = next(iter(query.get("model", [])), None)
        name = next(iter(query.get("script", [])), None)
        if model is not None and model.startswith(SCRIPT_MODEL_PREFIX):
            name, model = name or model.removeprefix(SCRIPT_MODEL_PREFIX), None
        if name is None:
            return next(self._default), model
        return self._scripts.get(name) or _unknown(name), model


def _subprotocol(_socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Select `realtime`; the others a client offers only carry its key."""
    return Subprotocol("realtime") if "realtime" in offered else None


def _unknown(name: str) -> Script:
    """What a connection gets that names a script which is not there: what an unknown model would give."""
    error = ErrorBody(code="model_not_found", message=f"The script '{name}' does not exist.")
    close = Close(code=4000, reason="invalid_request_error.model_not_found")
    return Script(name=name, refuse=Refusal(error=error, close=close))
