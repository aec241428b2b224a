"""Control frames: the opcodes, and what a close frame says (RFC 6455 sections 5.2 and 7)."""

from __future__ import annotations

from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
CONTROL_TYPES: Final = {8: "websocket.close", 9: "websocket.ping", 10: "websocket.pong"}
NO_STATUS: Final = 1005
"""The code that stands for a close frame without one (RFC 6455 section 7.1.5)."""


def parse_close(data: bytes) -> tuple[int, str]:
    """Code and reason of a close frame's payload; 1005 and "" where it has none. Any code is taken as it is."""
    if len(data) < 2:
        return NO_STATUS, ""
    return int.from_bytes(data[:2]), data[2:].decode("utf-8", "replace")
