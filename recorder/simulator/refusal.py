"""The one way in which a client event fails."""

from __future__ import annotations


class EventRefusedError(Exception):
    """A client event the server answers with an `error` event; the session goes on."""

    def __init__(self, code: str | None, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
