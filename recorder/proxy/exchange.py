"""One plain HTTP request and its answer: what of a connection's bytes may pass through the splice.

A connection carries one request. Its head was routed, and given credentials; what a client sends after its body would
be neither, so it is never forwarded (RFC 9112 section 9.6), and the client is told by `Connection: close`. A body sent
in chunks is framed anew, so that the upstream cannot read another end into it than was found here.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11

from recorder.proxy.http import ENCODING, RefusedError, Request, Response, parse_response_head, words_of

_END_OF_HEAD: Final = b"\r\n\r\n"
_CONNECTION_LINES: Final = re.compile(  # and such lines as go on in a next (RFC 9112 section 5.2)
    rb"(?im)^(?:connection|keep-alive|proxy-connection):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*"
)


class RequestBody:
    """Of what a client sends after its request's head, the body.

    Args:
        request: as `read_request` found it.
        max_bytes: ceiling of a chunk's header, and of the trailers.

    Attributes:
        first: what of the body came together with the head, as it is to be forwarded.

    Raises:
        RefusedError: 400, that is no body already.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        self._chunked = request.header("transfer-encoding") is not None
        self._over = False
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes)
        framing = [f"{n}: {v}" for n, v in request.headers if n.lower() in {"content-length", "transfer-encoding"}]
        head = "\r\n".join([f"{request.method} / HTTP/1.1", "Host: -", *framing]) + "\r\n\r\n"
        self._parser.receive_data(head.encode(ENCODING))
        self._parser.next_event()
        try:
            self.first = self._take(request.rest)
        except h11.RemoteProtocolError as error:
            raise RefusedError(400, "bad_request", words_of(error), by="client") from None

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the connection; gives those to forward.

        Raises:
            ConnectionAbortedError: the body is malformed. It cannot be finished, so the connection has to end.
        """
        try:
            return self._take(data)
        except h11.RemoteProtocolError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, words_of(error)) from None

    def end(self) -> bytes:
        """The client sends no more; there is nothing to add."""
        return b""

    def _take(self, data: bytes) -> bytes:
        if self._over:
            return b""
        if data:
            self._parser.receive_data(data)
        passed = []
        while (event := self._parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Data):
                passed.append(b"%x\r\n%b\r\n" % (len(event.data), event.data) if self._chunked else event.data)
            else:  # EndOfMessage: trailers, for which nobody has looked either, end here
                self._over = True
                passed += [b"0\r\n\r\n"] if self._chunked else []
                break
        return b"".join(passed)


class Answer:
    """What the upstream sends: as it came, but for `Connection: close` in the head where it did not say so itself.

    Args:
        max_bytes: an answer whose head is longer passes as it is.
        on_answer: called with the head once it is there, before it is passed on; not for 1xx answers.
    """

    def __init__(self, max_bytes: int, on_answer: Callable[[Response], None]) -> None:
        self._max_bytes = max_bytes
        self._on_answer = on_answer
        self._held = b""
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the connection; gives those to forward."""
        if self._over:
            return data
        self._held += data
        passed = b""
        while not self._over and (end := self._held.find(_END_OF_HEAD)) >= 0:
            head, self._held = self._held[: end + 4], self._held[end + 4 :]
            passed += self._checked(head)
        if self._over or len(self._held) > self._max_bytes:
            self._over = True
            passed += self.end()
        return passed

    def end(self) -> bytes:
        """The upstream sends no more; gives what was held back."""
        held, self._held = self._held, b""
        return held

    def _checked(self, head: bytes) -> bytes:
        try:
            status, headers = parse_response_head(head)
        except RefusedError:  # the client is to see what it would have seen
            self._over = True
            return head
        if status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS:
            return head
        self._over = True
        self._on_answer(Response(status, headers, head, b""))
        said = [
            item.strip().lower() for name, value in headers if name.lower() == "connection" for item in value.split(",")
        ]
        if "close" in said or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return head
        return _CONNECTION_LINES.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n"
