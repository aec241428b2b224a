"""A session's configuration: the object clients see, and the effective settings inside it."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any, Literal

from recorder.simulator.audio import AudioFormat
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.shapes import SettingsShape, check
from recorder.simulator.vad import VadSettings

_INSTRUCTIONS = (
    "Your knowledge cutoff is 2023-10. You are a helpful, witty, and friendly AI. Act like a human, but remember that "
    "you aren't a human and that you can't do human things in the real world. Your voice and personality should be "
    "warm and engaging, with a lively and playful tone. Talk quickly. You should always call a function if you can. "
    "Do not refer to these rules, even if you’re asked about them."
)
_VAD_DEFAULTS: dict[str, dict[str, Any]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}
_SEMANTIC_SILENCE_MS = {"low": 800, "medium": 500, "auto": 500, "high": 300}
_NEWER_KEYS = {"reasoning", "parallel_tool_calls"}
_READ_ONLY = {"id", "object", "expires_at"}
_GA_FORMATS = {audio_format.mime: audio_format for audio_format in AudioFormat}


def merge(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`base` with `patch` laid over it: objects merge at every depth, everything else is replaced."""
    merged = dict(base)
    for key, value in patch.items():
        old = merged.get(key)
        if key == "turn_detection" and isinstance(value, dict):
            merged[key] = _merged_vad(old, value)
        elif key == "transcription" and isinstance(value, dict):
            merged[key] = {"language": None, "prompt": None, **(old or {}), **value}
        elif isinstance(old, dict) and isinstance(value, dict) and key != "format":
            merged[key] = merge(old, value)
        else:
            merged[key] = deepcopy(value)
    return merged


def _merged_vad(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    kind = new.get("type", "server_vad")
    if kind not in _VAD_DEFAULTS:
        message = f"Invalid value: '{kind}'. Supported values are: 'server_vad' and 'semantic_vad'."
        raise EventRefusedError("invalid_value", message, param="session.audio.input.turn_detection.type")
    same = isinstance(old, dict) and old.get("type") == kind
    return {**_VAD_DEFAULTS[kind], **(old if same else {}), **new}


class Session:
    """One session's configuration in one of the two dialects.

    Args:
        session_id: its `sess_…` id.
        model: the model it reports.
        dialect: `ga` nests audio settings, `beta` is flat.
        overrides: the script's changes to the defaults.

    Raises:
        EventRefusedError: the overrides are not valid.
    """

    def __init__(
        self, session_id: str, model: str, *, dialect: Literal["ga", "beta"], overrides: dict[str, Any]
    ) -> None:
        self.dialect = dialect
        build = _ga_session if dialect == "ga" else _beta_session
        self.wire = build(session_id, model)
        self._known = self.wire.keys() | _NEWER_KEYS
        self._settle()
        self._lay_over(overrides)

    def update(self, patch: Any, *, has_spoken: bool) -> None:
        """Apply a `session.update`.

        Raises:
            EventRefusedError: the update is not valid; nothing was changed.
        """
        if not isinstance(patch, dict):
            raise EventRefusedError(
                "missing_required_parameter", "Missing required parameter: 'session'.", param="session"
            )
        if self.dialect == "ga" and "type" not in patch:
            message = "Missing required parameter: 'session.type'."
            raise EventRefusedError("missing_required_parameter", message, param="session.type")
        for key in patch:
            if key not in self._known or key in _READ_ONLY:
                raise EventRefusedError(
                    "unknown_parameter", f"Unknown parameter: 'session.{key}'.", param=f"session.{key}"
                )
        self._lay_over(patch, keep_voice=has_spoken)

    def _lay_over(self, patch: dict[str, Any], *, keep_voice: bool = False) -> None:
        before, voice = self.wire, self.voice
        try:
            self.wire = merge(before, patch)
            self._settle()
            _check_voice(changed=self.voice != voice, kept=keep_voice)
        except (EventRefusedError, TypeError, AttributeError, KeyError) as problem:
            self.wire = before
            self._settle()
            if isinstance(problem, EventRefusedError):
                raise
            raise EventRefusedError("invalid_type", "Invalid type in 'session'.", param="session") from None

    def _settle(self) -> None:
        """Work out the effective settings once per change, not once per message."""
        wire = self.wire
        if self.dialect == "ga":
            audio_in, audio_out = wire["audio"]["input"], wire["audio"]["output"]
            self.input_format = _ga_format(audio_in["format"], "session.audio.input.format")
            self.output_format = _ga_format(audio_out["format"], "session.audio.output.format")
            detection, transcription, limit = audio_in["turn_detection"], audio_in["transcription"], "max_output_tokens"
            self.voice, modalities = audio_out["voice"], wire["output_modalities"]
        else:
            self.input_format = _beta_format(wire["input_audio_format"])
            self.output_format = _beta_format(wire["output_audio_format"])
            detection, transcription = wire["turn_detection"], wire["input_audio_transcription"]
            self.voice, modalities, limit = wire["voice"], wire["modalities"], "max_response_output_tokens"
        shared = {key: wire[key] for key in ("instructions", "tools", "tool_choice")}
        self.vad = _vad_settings(detection)
        self.transcription: dict[str, Any] | None = transcription
        self.modalities: list[str] = modalities
        self.max_output_tokens: int | str | None = wire[limit]
        check(
            {**shared, "transcription": transcription, "modalities": modalities, "max_output_tokens": wire[limit]},
            SettingsShape,
            param="session",
        )
        self.instructions: str = shared["instructions"] or ""
        self.tools: list[dict[str, Any]] = shared["tools"] or []
        self.tool_choice = shared["tool_choice"]


def _check_voice(*, changed: bool, kept: bool) -> None:
    if changed and kept:
        message = "Cannot update a conversation's voice if assistant audio is present."
        raise EventRefusedError("cannot_update_voice", message, param="session.voice")


def _ga_session(session_id: str, model: str) -> dict[str, Any]:
    pcm = {"type": "audio/pcm", "rate": 24000}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": _INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": int(time.time()) + 3600,
        "audio": {
            "input": {
                "format": pcm,
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": dict(_VAD_DEFAULTS["server_vad"]),
            },
            "output": {"format": dict(pcm), "voice": "alloy", "speed": 1.0},
        },
        "include": None,
    }


def _beta_session(session_id: str, model: str) -> dict[str, Any]:
    return {
        "id": session_id,
        "object": "realtime.session",
        "expires_at": int(time.time()) + 1800,
        "input_audio_noise_reduction": None,
        "turn_detection": {
            key: value for key, value in _VAD_DEFAULTS["server_vad"].items() if key != "idle_timeout_ms"
        },
        "input_audio_format": "pcm16",
        "input_audio_transcription": None,
        "client_secret": None,
        "include": None,
        "model": model,
        "modalities": ["audio", "text"],
        "instructions": _INSTRUCTIONS,
        "voice": "alloy",
        "output_audio_format": "pcm16",
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
        "speed": 1.0,
        "tracing": None,
        "tools": [],
    }


def _ga_format(value: dict[str, Any], param: str) -> AudioFormat:
    audio_format = _GA_FORMATS.get(value["type"])
    if audio_format is None or value.get("rate", audio_format.rate) != audio_format.rate:
        raise EventRefusedError("invalid_value", f"Invalid value for '{param}': {value}.", param=param)
    return audio_format


def _beta_format(value: str) -> AudioFormat:
    try:
        return AudioFormat(value)
    except ValueError:
        param = "session.input_audio_format"
        raise EventRefusedError("invalid_value", f"Invalid value: '{value}'.", param=param) from None


def _vad_settings(value: dict[str, Any] | None) -> VadSettings | None:
    if value is None:
        return None
    if value["type"] == "semantic_vad":
        silence = _SEMANTIC_SILENCE_MS.get(value["eagerness"])
        if silence is None:
            param = "session.audio.input.turn_detection.eagerness"
            raise EventRefusedError("invalid_value", f"Invalid value: '{value['eagerness']}'.", param=param)
        settings: dict[str, Any] = {"silence_duration_ms": silence}
    else:
        settings = {key: value[key] for key in ("threshold", "prefix_padding_ms", "silence_duration_ms")}
        settings["idle_timeout_ms"] = value.get("idle_timeout_ms")
        _check_range("threshold", settings["threshold"], 1)
        _check_range("prefix_padding_ms", settings["prefix_padding_ms"], 10_000)
        _check_range("silence_duration_ms", settings["silence_duration_ms"], 10_000)
        if settings["idle_timeout_ms"] is not None:
            _check_range("idle_timeout_ms", settings["idle_timeout_ms"], 60_000)
    return VadSettings(
        kind=value["type"],
        create_response=value["create_response"],
        interrupt_response=value["interrupt_response"],
        **settings,
    )


def _check_range(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        param = f"session.audio.input.turn_detection.{name}"
        raise EventRefusedError("invalid_value", f"Invalid '{param}': {value} is not within 0 and {most}.", param=param)
