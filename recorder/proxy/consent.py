"""What is kept of a session: the route's word, its sampling rate, and what the client's own header asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from recorder.protocol.policy import ContentPolicy
from recorder.proxy.http import Request

_CONSENT: Final = {"yes": "on", "true": "on", "1": "on", "no": "off", "false": "off", "0": "off"}


class Mode(Enum):
    """What is kept of a session, from all to nothing."""

    ON = "on"
    NO_AUDIO = "no-audio"
    OFF = "off"

    @property
    def strictness(self) -> int:
        """Higher keeps less."""
        return list(Mode).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPolicy:
    """How a route decides what is kept of a session.

    Attributes:
        mode: for sessions that say nothing themselves.
        sample: the share of those that is kept at all, 0 to 1.
        consent_header: a request header, in lower case, by which a client has its say; or None.
        consent_may_loosen: whether that header is obeyed in all; else only where it asks for less to be kept.
        content: what is taken out of sessions that are kept; no header changes it.
    """

    mode: Mode = Mode.ON
    sample: float = 1.0
    consent_header: str | None = None
    consent_may_loosen: bool = False
    content: ContentPolicy = field(default_factory=ContentPolicy)

    def decide(self, request: Request, session_id: str) -> Recording:
        """What is kept of a session.

        Args:
            request: that opens it.
            session_id: decides whether it is one of the sample: the same for all time, and out of clients' reach.
        """
        mode, decided_by = self.mode, "route"
        if mode is not Mode.OFF and sample_point(session_id) >= self.sample:
            mode, decided_by = Mode.OFF, "sample"
        asked = self._asked(request)
        if asked is not None and (self.consent_may_loosen or asked.strictness > mode.strictness):
            mode, decided_by = asked, "consent_header"
        if mode is Mode.ON and self.content.drop_audio == "both":
            mode = Mode.NO_AUDIO
        content = msgspec.structs.replace(self.content, drop_audio="both") if mode is Mode.NO_AUDIO else self.content
        return Recording(mode, decided_by, self.sample, content)

    def _asked(self, request: Request) -> Mode | None:
        """What the client's header says; the strictest where it is there twice."""
        said = [value for name, value in request.headers if name.lower() == self.consent_header]
        return max(map(_consented, said), key=lambda mode: mode.strictness, default=None)


@dataclass(frozen=True, slots=True)
class Recording:
    """What is kept of a session, and who said so.

    Attributes:
        mode: as decided.
        decided_by: "route", "sample" or "consent_header".
        sample: the route's.
        content: what is taken out of it.
    """

    mode: Mode
    decided_by: str
    sample: float
    content: ContentPolicy

    def facts(self) -> dict[str, Any]:
        """The object `recording` of the session's first record."""
        facts = {"mode": self.mode.value, "decided_by": self.decided_by, "sample": self.sample}
        taken_out = self.mode is not Mode.OFF and not self.content.keeps_all
        return facts | ({"policy": self.content.facts()} if taken_out else {})


def sample_point(session_id: str) -> float:
    """Where a session lies in [0, 1); those below a route's `sample` are recorded. Evenly spread."""
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:6]) / 2**48


def _consented(value: str) -> Mode:
    """Only what is understood counts as a yes."""
    word = value.strip().lower()
    try:
        return Mode(_CONSENT.get(word, word))
    except ValueError:
        return Mode.OFF
