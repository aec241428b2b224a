"""Usage numbers by a stated rule (docs/simulator.md), so that truth can be worked out by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from recorder.simulator.conversation import Item, Tokens, text_tokens

_CACHE_BLOCK = 64


class Meter:
    """Counts prompts and what of them the cache holds.

    A prompt is instructions, tools and items. What the previous response's prompt already held is cached, in whole
    blocks of 64 tokens for each modality; a change of instructions or tools empties the cache.
    """

    def __init__(self) -> None:
        self._seen = Tokens()
        self._prefix: tuple[str, bytes] | None = None

    def prompt(
        self, instructions: str, tools: list[dict[str, Any]], items: list[Item], *, remember: bool = True
    ) -> tuple[Tokens, Tokens]:
        """The tokens of a prompt, and how many of them are cached.

        Args:
            instructions: the system message.
            tools: tool definitions.
            items: the items the model reads.
            remember: whether the next prompt can have this one cached (not so outside the conversation).
        """
        described = msgspec.json.encode(tools)
        total = Tokens(text_tokens(instructions) + (text_tokens(described.decode()) if tools else 0))
        for item in items:
            total += item.tokens
        seen = self._seen if self._prefix == (instructions, described) else Tokens()
        if remember:
            self._seen, self._prefix = total, (instructions, described)
        return total, Tokens(
            _blocks(seen.text, total.text), _blocks(seen.audio, total.audio), _blocks(seen.image, total.image)
        )


def _blocks(seen: int, now: int) -> int:
    return min(seen, now) // _CACHE_BLOCK * _CACHE_BLOCK


def usage_object(prompt: Tokens, cached: Tokens, output: Tokens) -> dict[str, Any]:
    """The `usage` object of a response."""
    return {
        "total_tokens": prompt.total + output.total,
        "input_tokens": prompt.total,
        "output_tokens": output.total,
        "input_token_details": {
            "text_tokens": prompt.text,
            "audio_tokens": prompt.audio,
            "image_tokens": prompt.image,
            "cached_tokens": cached.total,
            "cached_tokens_details": {
                "text_tokens": cached.text,
                "audio_tokens": cached.audio,
                "image_tokens": cached.image,
            },
        },
        "output_token_details": {"text_tokens": output.text, "audio_tokens": output.audio},
    }


def transcription_usage(model: str, audio_ms: float, transcript: str) -> dict[str, Any]:
    """The `usage` object of a transcription: seconds for Whisper models, tokens for the others."""
    if "whisper" in model:
        return {"type": "duration", "seconds": max(1, round(audio_ms / 1000))}
    heard, written = -(-round(audio_ms) // 100), text_tokens(transcript)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
    }
