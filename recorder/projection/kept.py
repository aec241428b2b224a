"""What is kept of a session, in a few words: for whoever wonders why there is nothing to see or hear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recorder.projection import payload as json

_MODES: Final = {"off": "not recorded, by policy", "stopped": "recording stopped in mid-call"}
_AUDIO: Final = {"both": "audio not kept", "client": "client's audio not kept", "server": "server's audio not kept"}


def kept_words(session: Mapping[str, Any]) -> str:
    """What a session's row says of its recording; "" where everything was kept.

    Args:
        session: of the model `sessions`.
    """
    policy = json.read(session.get("content_policy"))
    words = [
        _MODES.get(session.get("recording") or "", ""),
        _AUDIO.get(json.text(policy, "drop_audio") or "", ""),
        "texts hashed" if policy.get("hash_text") is True else "",
    ]
    said = ", ".join(word for word in words if word)
    left_out = session.get("left_out_bytes")
    return f"{said} ({left_out:,} bytes left out)" if said and left_out is not None else said
