"""What becomes of a session in each state, whatever goes wrong: the table of `test_faults`.

A cell says what the client and the upstream see, and what is on record; or why there is no such case.
"""

from typing import Final, NamedTuple


class Record(NamedTuple):
    """The end that is written down; `error` is part of what stands there, "" for no error."""

    closed_by: str
    status: int | None = None
    first_end: str | None = None
    error: str = ""
    close_code: int | None = None


class Cell(NamedTuple):
    """What comes of a fault in a state.

    Attributes:
        client: what the client sees: "408" and the like (an HTTP answer, then FIN), "fin", "reset", "end" (either),
            "1001" (a WebSocket Close, then FIN), or None where there is nobody to see it.
        upstream: likewise.
        record: the session's end on record; None: nothing is on record.
        goes_on: the session goes on, and can be brought to its regular end.
    """

    client: str | None = None
    upstream: str | None = None
    record: Record | None = None
    goes_on: bool = False


Row = dict[str, Cell | str]

ON: Final = Cell(goes_on=True, record=Record("lost", first_end="client"))
ON_UPSTREAM_ENDED: Final = Cell(goes_on=True, record=Record("lost", first_end="upstream"))
UNRECORDED: Final = Cell(goes_on=True)
STOPPED: Final = "the proxy stopped"
RESET: Final = "Connection reset by peer"
UNKNOWN_NAME: Final = Record("proxy", 502, error="Name or service not known")


UNCONNECTED: Final[Row] = dict.fromkeys(
    (
        "upstream resets",
        "upstream ends",
        "upstream sends garbage",
        "upstream sends an endless head",
        "upstream refuses the upgrade",
    ),
    "there is no connection to the upstream yet",
)


UNDIALED: Final[Row] = UNCONNECTED | dict.fromkeys(
    ("upstream refuses the connection", "upstream refuses TLS", "upstream's name is unknown"), "it was not dialed yet"
)


DIALED: Final[Row] = {
    "upstream refuses the connection": "it has accepted it",
    "upstream's name is unknown": "it is known by now",
}


NO_HANDSHAKE: Final[Row] = DIALED | {
    "client sends an endless head": "its head is over",
    "upstream sends an endless head": "its head is over",
    "upstream refuses the upgrade": "it has agreed to it",
    "upstream refuses TLS": "TLS stands, or is not spoken here",
}


RECORDER_AWAY: Final[Row] = {"recorder is killed": ON, "disk is full": ON}


def refused(status: int, error: str) -> Cell:
    return Cell(str(status), "end", Record("proxy", status, error=error))


def told(client: str = "1001", upstream: str = "1001") -> Cell:
    return Cell(client, upstream, Record("proxy", error=STOPPED, close_code=1001))


def lost(party: str, *, other: str = "reset") -> Cell:
    record = Record("lost", first_end=party, error=RESET)
    return Cell(None, other, record) if party == "client" else Cell(other, None, record)


WAITING_FOR_A_REQUEST: Final[Row] = (
    UNDIALED
    | RECORDER_AWAY
    | {
        "silence": Cell("408"),
        "client resets": Cell(),
        "client sends garbage": Cell("400"),
        "client sends an endless head": Cell("431"),
        "ring is full": UNRECORDED,
        "worker is stopped": Cell("fin"),
    }
)


WAITING_FOR_THE_UPSTREAM: Final[Row] = RECORDER_AWAY | {
    "client resets": lost("client", other="end"),
    "client ends": ON,
    "client sends garbage": ON,
    "client sends an endless head": "its head is over",
    "ring is full": ON,
    "worker is stopped": Cell("fin", "end", Record("proxy", error=STOPPED)),
}


READING_AN_ANSWER: Final[Row] = (
    WAITING_FOR_THE_UPSTREAM
    | DIALED
    | {
        "silence": refused(504, "did not answer in time"),
        "client resets": lost("client"),
        "upstream resets": Cell("502", None, Record("proxy", 502, error=RESET)),
        "upstream sends garbage": refused(502, "not HTTP"),
        "upstream sends an endless head": refused(502, "response head of the upstream is over"),
        "upstream refuses TLS": "TLS stands, or is not spoken here",
    }
)


ANSWERLESS: Final[Row] = READING_AN_ANSWER | {
    "upstream ends": refused(502, "answered nothing"),
    "upstream refuses the upgrade": Cell("401", "end", Record("upstream", 401)),
}


OPEN: Final[Row] = (
    NO_HANDSHAKE
    | RECORDER_AWAY
    | {
        "silence": Cell("end", "end", Record("proxy", error="idle for")),
        "client resets": lost("client"),
        "client ends": ON,
        "client sends garbage": ON,
        "upstream resets": lost("upstream"),
        "upstream ends": ON_UPSTREAM_ENDED,
        "upstream sends garbage": ON,
        "ring is full": ON,
        "worker is stopped": told(),
    }
)


CLIENT_ENDED: Final[Row] = OPEN | {
    "silence": Cell("fin", "end", Record("lost", first_end="client", error="half-closed for")),
    "client ends": "it has",
    "client sends garbage": "it has ended",
    "client resets": lost("client"),
    "upstream resets": Cell("reset", None, Record("lost", first_end="client", error=RESET)),
    "upstream ends": ON,
    "worker is stopped": told(upstream="end"),
}


UPSTREAM_ENDED: Final[Row] = (
    OPEN
    | dict.fromkeys(
        ("ring is full", "recorder is killed", "disk is full", "client ends", "client sends garbage"), ON_UPSTREAM_ENDED
    )
    | {
        "silence": Cell("end", "fin", Record("lost", first_end="upstream", error="half-closed for")),
        "upstream ends": "it has",
        "upstream sends garbage": "it has ended",
        "client resets": Cell(None, "reset", Record("lost", first_end="upstream", error=RESET)),
        "upstream resets": lost("upstream"),
        "worker is stopped": told(client="end"),
    }
)


MATRIX: Final[dict[str, Row]] = {
    "TLS from the client": WAITING_FOR_A_REQUEST
    | {
        "silence": Cell("end"),
        "client ends": Cell("end"),
        "client sends garbage": Cell("end"),
        "client sends an endless head": "TLS comes before any head",
        "worker is stopped": Cell("end"),
    },
    "accepted": WAITING_FOR_A_REQUEST | {"client ends": Cell("fin")},
    "request half read": WAITING_FOR_A_REQUEST | {"client ends": Cell("400")},
    "dialing": WAITING_FOR_THE_UPSTREAM
    | UNCONNECTED
    | {
        "silence": Cell("504", None, Record("proxy", 504, error="no connection to")),
        "client resets": lost("client")._replace(upstream=None),
        "upstream refuses the connection": Cell("502", None, Record("proxy", 502, error="Connection refused")),
        "upstream refuses TLS": "that comes after dialing",
        "upstream's name is unknown": Cell("502", None, Record("proxy", 502, error="Name or service not known")),
        "worker is stopped": Cell("fin", None, Record("proxy", error=STOPPED)),
    },
    "TLS to the upstream": WAITING_FOR_THE_UPSTREAM
    | DIALED
    | {
        "silence": refused(504, "no connection to"),
        "upstream resets": Cell("502", None, Record("proxy", 502, error=RESET)),
        "upstream ends": refused(502, "TLS with"),
        "upstream sends garbage": refused(502, "TLS with"),
        "upstream sends an endless head": "TLS comes before any head",
        "upstream refuses the upgrade": "TLS comes before any answer",
        "upstream refuses TLS": refused(502, "TLS with"),
    },
    "upgrade sent": ANSWERLESS,
    "interim answer passed on": ANSWERLESS,
    "answer half read": READING_AN_ANSWER
    | {
        "upstream ends": refused(502, "answered garbage"),
        "upstream refuses the upgrade": "its status line says 101",
    },
    "refusal half passed on": NO_HANDSHAKE
    | dict.fromkeys(
        ("client ends", "client sends garbage", "ring is full", "recorder is killed", "disk is full"),
        Cell(goes_on=True, record=Record("upstream", 401)),
    )
    | {
        "silence": Cell("end", "end", Record("upstream", 401)),
        "client resets": Cell(None, "end", Record("upstream", 401)),
        "upstream resets": Cell("reset", None, Record("upstream", 401)),
        "upstream ends": Cell("fin", "end", Record("upstream", 401)),
        "upstream sends garbage": "a body may be anything",
        "upstream refuses the upgrade": "it has",
        "worker is stopped": Cell("end", "end", Record("upstream", 401)),
    },
    "refused": UNDIALED
    | dict.fromkeys(
        ("client ends", "client sends garbage", "ring is full", "recorder is killed", "disk is full"),
        Cell(goes_on=True, record=UNKNOWN_NAME),
    )
    | {
        "silence": Cell("fin", None, UNKNOWN_NAME),
        "client resets": Cell(None, None, UNKNOWN_NAME),
        "client sends an endless head": "its head is over",
        "worker is stopped": Cell("fin", None, UNKNOWN_NAME),
    },
    "open": OPEN,
    "open, TLS": OPEN,
    "in a message up": OPEN | {"worker is stopped": told(upstream="end")},
    "in a message down": OPEN | {"worker is stopped": told(client="end")},
    "client half-closed": CLIENT_ENDED,
    "client half-closed, TLS": CLIENT_ENDED,
    "upstream half-closed": UPSTREAM_ENDED,
    "upstream half-closed, TLS": UPSTREAM_ENDED,
    "held back by the client": OPEN
    | {
        "upstream sends garbage": "it cannot send: that is this state",
        "worker is stopped": told(client="end"),
    },
    "held back by the upstream": OPEN
    | {
        "client sends garbage": "it cannot send: that is this state",
        "worker is stopped": told(upstream="end"),
    },
    "draining": OPEN
    | {
        "silence": told(),
        "worker is stopped": ON,  # once is enough
    },
}
