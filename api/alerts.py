"""Alerts: a webhook is told when an objective begins to burn too fast, and when it no longer does."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from api.store import Store
from recorder.analytics.slo import Report, Slo, evaluate_all
from recorder.errors import RecorderError, UsageError

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
_TIMEOUT_SECONDS: Final = 10.0


class Alerts:
    """Evaluates objectives every minute in a thread of its own, and posts what changed.

    An alert that could not be posted is posted with the next round, as long as it holds.

    Args:
        store: what is judged.
        slos: the objectives.
        webhook: where changes are posted: `{"status": "firing" | "resolved", "slo": …, "report": {…}, "at": …}`.
        every_seconds: between two rounds.

    Raises:
        UsageError: `webhook` is no HTTP address.
    """

    def __init__(
        self, store: Store, slos: Sequence[Slo], webhook: str, *, every_seconds: float = EVERY_SECONDS
    ) -> None:
        if not webhook.startswith(("http://", "https://")):
            raise UsageError("--alert-webhook wants an address that begins with http:// or https://")
        self._store = store
        self._slos = slos
        self._webhook = webhook
        self._every_seconds = every_seconds
        self._firing: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for a round that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.check(datetime.now(UTC))
            except RecorderError as error:
                log.warning("objectives cannot be evaluated now: %s", error.message)
            except Exception:
                log.exception("objectives cannot be evaluated")
            self._stopped.wait(self._every_seconds)

    def check(self, now: datetime) -> None:
        """One round.

        Args:
            now: the end of all windows.
        """
        for report in evaluate_all(self._slos, self._store.catalog().query, now):
            fired = report.name in self._firing
            if report.alerting != fired and self._post(report, now):
                (self._firing.add if report.alerting else self._firing.discard)(report.name)

    def _post(self, report: Report, now: datetime) -> bool:
        status = "firing" if report.alerting else "resolved"
        body: dict[str, Any] = {"status": status, "slo": report.name, "at": now.isoformat(), "report": report}
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see above
            self._webhook, msgspec.json.encode(body), {"content-type": "application/json"}
        )
        log.warning("objective %r: alert is %s", report.name, status)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
                return True
        except OSError as error:  # the address is not said: it may hold a secret
            log.warning("the webhook did not take the alert: %s", getattr(error, "reason", type(error).__name__))
            return False
