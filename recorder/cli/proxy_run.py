"""Running a proxy that is set up: its processes, its signals, its admin address."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from recorder.cli.proxy_setup import allow_files
from recorder.errors import StoreError
from recorder.pipeline.locks import is_recorded, ring_of
from recorder.pipeline.parent import ORDERLY
from recorder.proxy.admin import TOKEN_VARIABLE, Admin
from recorder.proxy.config import WorkerConfig
from recorder.proxy.metrics import Metrics
from recorder.proxy.onlyproxy import OnlyProxy
from recorder.proxy.supervisor import Child, Signals, listen, supervise, worker_child
from recorder.proxy.takeover import HandOver, TakeOver

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = {"recorder": 30.0, "sorter": 120.0, "sealer": 600.0}
MALLOC = "GLIBC_TUNABLES"
"""The variable that tells the C library how to keep memory."""
MALLOC_OF_SEALER = "glibc.malloc.tcache_count=1000"
"""Planning a model's query takes thousands of small objects and gives them back. The C library keeps seven of each size
at hand unless told otherwise, and what does not fit there makes its heap, and so each further sealing, slower."""


def run(
    settings: WorkerConfig,
    *,
    upstreams: str,
    address: str,
    workers: int,
    take_over: bool,
    seal: bool,
    seal_seconds: float,
    compact_after: int,
    sync_seconds: float,
    disk_floor_bytes: int,
    admin_address: str,
) -> None:
    """Serve until a signal, or a successor, ends it.

    Args:
        settings: for the workers.
        upstreams: where connections go, in a few words.
        address: where to listen, HOST:PORT.
        workers: how many processes.
        take_over: whether to take the listening sockets from the proxy that runs.
        seal: whether to sort and to seal what is recorded.
        seal_seconds: how often the journal of a running session goes on in a next part; 0: never.
        compact_after: how many small files of a date are merged; 0: none.
        sync_seconds: how often journals are forced to the disk.
        disk_floor_bytes: free disk space below which nothing is recorded.
        admin_address: HOST:PORT of the admin server, or "".

    Raises:
        RecorderError: it cannot start; nothing of it is left running.
    """
    rings = Path(settings.ring_dir)
    signals = Signals()
    if shortage := allow_files(settings.max_sessions):
        log.warning("%s (ulimit -n, --max-sessions)", shortage)
    lock = _the_only_one(settings, take_over=take_over)
    predecessor = TakeOver(rings) if take_over else None
    sockets = predecessor.sockets if predecessor else listen(address, workers)
    children = [worker_child(settings, number, share) for number, share in enumerate(shares(sockets, workers))]
    if settings.recording:
        options = [f"--sync-seconds={sync_seconds}", f"--disk-floor-bytes={disk_floor_bytes}"]
        children.append(_child("recorder", "record", 1, *options, settings.data_dir, settings.ring_dir))
        if seal:
            places = (settings.data_dir, settings.ring_dir)
            children.append(_child("sorter", "sorter", 2, f"--seal-seconds={seal_seconds}", *places))
            children.append(_child("sealer", "sealer", 3, f"--compact-after={compact_after}", settings.data_dir))
    token = os.environ.pop(TOKEN_VARIABLE, None)  # of no use to the processes that are started
    metrics = Metrics(children, rings, disk_floor_bytes=disk_floor_bytes, draining=signals.stop)
    with contextlib.ExitStack() as ending:
        ending.callback(_remove_if_empty, rings)
        close_admin: Callable[[], None] = lambda: None  # noqa: E731
        if admin_address:
            admin = Admin(
                admin_address,
                metrics=metrics,
                ring_dir=rings,
                reload=signals.reload.set,
                token=token,
                shared=take_over,
            )
            admin.start()
            close_admin = admin.close
            ending.callback(close_admin)
            log.info("admin address: %s", admin.url)

        def succeeded() -> None:
            close_admin()  # the successor listens there already
            signals.stop.set()

        hand_over = HandOver(rings, sockets, lock, succeeded)
        ending.callback(hand_over.close)

        def take_no_more() -> None:
            """Ours are not the only copies of the sockets: workers, or a successor, have theirs."""
            hand_over.close()
            _close(sockets)
            lock.release()

        def ready() -> None:
            url = _url(sockets[0].getsockname()[:2], tls=settings.tls_cert is not None)
            if settings.recording:
                log.info("recording %s → %s into %s", url, upstreams, settings.data_dir)
                each = settings.ring_bytes >> 20
                log.info("shared memory: %d MiB for each worker, in %s (--ring-mb, --ring-dir)", each, rings)
            else:
                log.info("forwarding %s → %s, recording nothing", url, upstreams)
            typer.echo(url)
            sys.stdout.flush()
            if predecessor:
                predecessor.ready(lock)

        supervise(children, signals, on_death=_say_death, on_ready=ready, on_stop=take_no_more, on_look=lock.look_after)


def _the_only_one(settings: WorkerConfig, *, take_over: bool) -> OnlyProxy:
    """See that no other proxy is in the way.

    One that is ending, or whose supervisor was killed, is not, if it finds our rings: it drains them until we can.

    Raises:
        StoreError: another one takes connections, or would not find our rings.
    """
    data, rings = Path(settings.data_dir), Path(settings.ring_dir)
    lock = OnlyProxy(data)
    if not take_over:
        lock.claim()
    if settings.recording and is_recorded(data) and not (ring_of(data) == rings and rings.is_dir()):
        raise StoreError(
            f"{data} is still recorded into by a proxy that is ending, and whose shared memory is in {ring_of(data)}",
            hint="Wait for its end, or start with the same --ring-dir (and in the same container).",
        )
    return lock


def shares(sockets: list[socket.socket], workers: int) -> list[list[socket.socket]]:
    """Which worker accepts from which sockets. All are served, and nobody goes without.

    A predecessor may have had more workers, or fewer: then some take from the same. New sockets beside its own would
    be given connections at once, which were lost if this version could not start.
    """
    return [sockets[number::workers] or [sockets[number % len(sockets)]] for number in range(workers)]


def _url(place: tuple[str, int], *, tls: bool) -> str:
    host, port = place
    return f"{'wss' if tls else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}"


def _child(name: str, module: str, stage: int, *words: str) -> Child:
    """One of the processes that come after the workers."""
    command = [sys.executable, "-m", f"recorder.pipeline.{module}", *words]
    tuned = name == "sealer" and MALLOC not in os.environ
    return Child(
        name=name,
        command=command,
        environment={MALLOC: MALLOC_OF_SEALER} if tuned else {},
        stage=stage,
        farewell=ORDERLY,
        patience_seconds=_PATIENCE_SECONDS[name],
    )


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _remove_if_empty(rings: Path) -> None:
    with contextlib.suppress(OSError):
        rings.rmdir()  # unless a successor, or something that could not be drained, is in it


def _say_death(child: Child, code: int) -> None:
    log.error("%s ended with code %d; starting it again", child.name, code)
