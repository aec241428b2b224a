"""One session on record: that it began, that it was accepted, its bytes through the tap, and how it ended."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from typing import Any, Final

from recorder.protocol.envelope import RecordKind
from recorder.proxy.config import WorkerConfig
from recorder.proxy.consent import Mode
from recorder.proxy.facts import accepted_facts, new_session_id, opened_facts
from recorder.proxy.http import RefusedError, Request, Response
from recorder.proxy.routes import Route
from recorder.proxy.tap import Tap
from recorder.store.counters import ERROR, Counters
from recorder.store.ring import RingWriter

log = logging.getLogger(__name__)

KINDS: Final = (RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES)
SIDEBAND_LABEL: Final = {"connection": "sideband"}
"""Given to sessions that the recorder itself has opened, to follow a call that bypasses it."""

_SETTLE_SECONDS: Final = 1.0
_INTERIM_MOST: Final = 16  # an upstream can send them without end


class Logbook:
    """Begins with a session, and gives it its id.

    Args:
        ring: where records go.
        session_no: the session's number in it.
        counters: the worker's.

    Attributes:
        session_id: the session's.
        about: what may be told of it while it runs.
        tap: where its bytes go; None where nothing is recorded, and after its end.
    """

    __slots__ = (
        "_began_ns",
        "_connect_seconds",
        "_counters",
        "_interim",
        "_now_ns",
        "_ring",
        "_session_no",
        "about",
        "session_id",
        "tap",
    )

    def __init__(self, ring: RingWriter, session_no: int, counters: Counters) -> None:
        self._ring = ring
        self._session_no = session_no
        self._counters = counters
        self._began_ns = time.monotonic_ns()
        self._now_ns = time.time_ns()
        self._connect_seconds: float | None = None
        self._interim: list[int] = []
        self.session_id = new_session_id(self._now_ns)
        self.about: dict[str, Any] = {"session_id": self.session_id}
        self.tap: Tap | None = None

    @property
    def named(self) -> dict[str, Any]:
        """The fields of a log line about the session."""
        return {"session_id": self.session_id}

    def open(
        self,
        request: Request,
        route: Route,
        client_name: str | None,
        *,
        address: str,
        config: WorkerConfig,
        call_id: str | None = None,
    ) -> None:
        """Record that it begins, if it is to be recorded.

        Args:
            request: the client's.
            route: the one it takes.
            client_name: the name of its token, if it needed one.
            address: where it comes from.
            config: the worker's.
            call_id: of the call that the recorder itself joins by this session; None where a client opened it.

        Raises:
            RefusedError: 503, it cannot be recorded, and the policy is to refuse.
        """
        recording = route.recording.decide(request, self.session_id)
        off = recording.mode is Mode.OFF
        of_sideband = {} if call_id is None else SIDEBAND_LABEL
        labels = route.labels_for(request, client_name) | of_sideband
        since = dt.datetime.fromtimestamp(self._now_ns / 1e9, dt.UTC).isoformat(timespec="milliseconds")
        self.about |= {"since": since, "route": route.name, "labels": labels}
        if not config.recording:
            return
        tap = Tap(self._ring, self._session_no, off=off)
        facts = opened_facts(
            None if off else request,
            session_id=self.session_id,
            now_ns=self._now_ns,
            monotonic_ns=self._began_ns,
            client={} if off else {"address": address},
            upstream=route.upstream.url,
            route=route.name,
            labels=route.own_labels(client_name) | of_sideband if off else labels,
            **({} if off or call_id is None else {"call_id": call_id}),
            recording=recording.facts(),
            ring=self._ring.name,
            session_no=self._session_no,
        )
        refuse = config.on_recording_failure == "refuse" and not off
        recorded = not (refuse and self._ring.held_back) and tap.facts(RecordKind.OPENED, facts)
        if refuse and not recorded:
            raise RefusedError(503, "cannot_record", "this session cannot be recorded now, and the policy is to refuse")
        self.tap = tap
        if not recorded:
            self._counters.add(ERROR, value="not_recorded")
            log.error("the session is not recorded yet: the ring is full", extra=self.named | {"cause": "ring_full"})

    def connected(self, seconds: float) -> None:
        """Note how long it took to connect to the upstream."""
        self._connect_seconds = seconds

    def note_interim(self, status: int) -> None:
        """Note an answer of the upstream's that was not its last; of many, the first."""
        if len(self._interim) < _INTERIM_MOST:
            self._interim.append(status)

    def accept(self, request: Request, response: Response) -> None:
        """Record that the upstream agreed, and what either side has already said in the packet with its head."""
        if self.tap is None:
            return
        facts = accepted_facts(
            response,
            began_ns=self._began_ns,
            now_ns=time.monotonic_ns(),
            connect_seconds=self._connect_seconds,
            headers=not self.tap.off,
        )
        self.tap.facts(RecordKind.ACCEPTED, facts | self._take_interim())
        for kind, data in zip(KINDS, (request.rest, response.rest), strict=True):
            if data:
                self.tap.chunk(kind, data)

    @property
    def is_bereft(self) -> bool:
        """Whether the store that has the session so far is there no more."""
        return self.tap is not None and self.tap.is_bereft

    def begin_anew(self, traffic: tuple[int, int]) -> None:
        """Go on in the store that there is now, where all that was said is missing.

        Args:
            traffic: bytes from the client and from the upstream.
        """
        if self.tap is not None:
            self.tap.begin_anew(dict(zip(KINDS, traffic, strict=True)))

    @property
    def records(self) -> bool:
        """Whether what is said now is recorded."""
        return self.tap is not None and self.tap.stopped is None

    def stop(self) -> bool:
        """Record nothing more of what is said. Returns whether it was being recorded."""
        if self.tap is None or self.tap.stopped is not None:
            return False
        self.tap.stop("stopped by request")
        log.info("recording was stopped by request", extra=self.named)
        return True

    def close(self, traffic: tuple[int, int], **facts: Any) -> None:
        """Write the last record, once.

        Args:
            traffic: bytes from the client and from the upstream.
            facts: how it ended.
        """
        if self.tap is None:
            return
        if self.is_bereft:
            self.begin_anew(traffic)
        tap, self.tap = self.tap, None
        facts = {"status": None, "client_bytes": traffic[0], "server_bytes": traffic[1], **facts}
        facts["missed_bytes"] = tap.missed_bytes
        if tap.stopped is not None:
            facts["left_out"] = dict(zip(("client_bytes", "server_bytes"), tap.left_out.values(), strict=True))
            if not tap.off:
                facts["recording_stopped"] = tap.stopped
            if facts["closed_by"] == "lost" and facts["error"] is None:
                facts["closed_by"] = None  # a close frame there may have been, but nobody looked
        facts |= {"connect_seconds": self._connect_seconds, **self._take_interim()}
        if facts["status"] is not None:  # a refusal, which is about to be sent
            facts["handshake_seconds"] = (time.monotonic_ns() - self._began_ns) / 1e9
        if not tap.facts(RecordKind.CLOSED, facts):
            log.error(
                "the session's end cannot be recorded yet: the ring is full", extra=self.named | {"cause": "ring_full"}
            )
            _settle_later(tap)

    def _take_interim(self) -> dict[str, list[int]]:
        """What was noted of interim answers, for the record of the one that followed."""
        noted, self._interim = self._interim, []
        return {"interim_statuses": noted} if noted else {}


def _settle_later(tap: Tap) -> None:
    """Try until the recorder process has made room in the ring, or the worker ends."""
    if not tap.settle():
        asyncio.get_running_loop().call_later(_SETTLE_SECONDS, _settle_later, tap)
