"""An upstream for WebRTC calls, built on the simulator: SDP in, SDP out, and a sideband connection for who asks for it.

A call is a client of the simulator, which stands for the browser and its media. It begins to speak when somebody has
joined; what the server told it is told to them when it is over.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from websockets.frames import Close, Opcode

from recorder.simulator.client import ClientLog, play
from recorder.simulator.server import Simulator
from tests.proxy.telephony import accepted, frame

SPEED: Final = 8.0
SDP: Final = b"v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


@dataclass
class Call:
    """A call.

    Attributes:
        authorization: of the request that began it.
        session: the configuration that came with the offer.
        refusals: what those who ask to join are told first.
        asked: how often somebody has.
        log: what its media client heard, once it is over.
    """

    authorization: str
    session: str
    refusals: list[str]
    asked: int = 0
    log: asyncio.Future[ClientLog] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Switchboard:
    """Listens while it is entered.

    Args:
        refusals: by the number of a call, from 0, the status lines that answer those who would join, one after the
            other; then they may. Of calls with more than can be tried nobody ever joins.
    """

    def __init__(self, refusals: Mapping[int, list[str]]) -> None:
        self._refusals = refusals
        self._simulator = Simulator("default", speed=SPEED)
        self.calls: dict[str, Call] = {}

    async def __aenter__(self) -> Self:
        await self._simulator.start()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._simulator.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        authorization = _header(head, "authorization")
        if head.startswith(b"POST /v1/realtime/calls "):
            body = await reader.readexactly(int(_header(head, "content-length")))
            answer = self._begin(authorization, _header(head, "content-type"), body)
            writer.write(answer)
        else:
            await self._join(head, authorization, reader, writer)
        with suppress(OSError):
            await writer.drain()
        writer.close()

    def _begin(self, authorization: str, content_type: str, body: bytes) -> bytes:
        fields = _form(content_type, body)
        assert fields["sdp"].startswith("v=0")
        number = len(self.calls)
        call_id = f"rtc_u{number}_{'x' * 20}"
        self.calls[call_id] = Call(authorization, fields["session"], list(self._refusals.get(number, ())))
        return (
            f"HTTP/1.1 201 Created\r\nLocation: /v1/realtime/calls/{call_id}\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n"
        ).encode() + SDP

    async def _join(
        self, head: bytes, authorization: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        call = self.calls[re.search(rb"[?&]call_id=([^& ]+)", head)[1].decode()]  # type: ignore[index]
        call.asked += 1
        refusal = call.refusals.pop(0) if call.refusals else None
        if authorization != call.authorization:
            refusal = "401 Unauthorized"
        if refusal is not None:
            writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        writer.write(accepted(head))
        log = await play("default", self._simulator.url, speed=SPEED)
        for message in log.messages:
            if message.direction == "server":
                data = message.data.encode() if isinstance(message.data, str) else message.data
                writer.write(frame(Opcode.TEXT, data))
        call.log.set_result(log)
        writer.write(frame(Opcode.CLOSE, Close(1000, "the call has ended").serialize()))
        await writer.drain()
        assert (await reader.readexactly(8))[:2] == b"\x88\x82"  # its Close
        assert await reader.read() == b""


def _header(head: bytes, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r$", head.decode("latin-1"), re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form (RFC 7578)."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    fields = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        assert name is not None
        fields[name[1].decode()] = value.removesuffix(b"\r\n").decode()
    return fields
