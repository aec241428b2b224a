import json
from typing import Any

import pytest

from recorder.projection.kept import kept_words


def policy(drop: str | None, *, hashes: bool) -> str:
    return json.dumps({"drop_audio": drop, "hash_text": hashes})


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({}, ""),
        ({"recording": None, "content_policy": None, "left_out_bytes": 0}, ""),
        ({"recording": "on", "left_out_bytes": 0}, ""),
        ({"recording": "off", "left_out_bytes": 1234}, "not recorded, by policy (1,234 bytes left out)"),
        ({"recording": "off", "left_out_bytes": None}, "not recorded, by policy"),
        ({"recording": "no-audio", "content_policy": policy("both", hashes=False)}, "audio not kept"),
        ({"recording": "on", "content_policy": policy("client", hashes=True)}, "client's audio not kept, texts hashed"),
        (
            {"recording": "stopped", "content_policy": policy("server", hashes=False), "left_out_bytes": 7},
            "recording stopped in mid-call, server's audio not kept (7 bytes left out)",
        ),
    ],
)
def test_what_is_kept_in_words(session: dict[str, Any], words: str) -> None:
    assert kept_words(session) == words
