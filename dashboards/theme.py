"""Colours and measures, light and dark: the one place for pages (as CSS variables) and charts alike.

Lane colours are from Okabe and Ito's palette, told apart in every common form of colour blindness, and are never the
only sign of a thing: lanes have names, states have words. Texts reach a contrast of 4.5 : 1 on their ground.
"""

from __future__ import annotations

from typing import Final, Literal

Scheme = Literal["light", "dark"]

LIGHT: Final[dict[str, str]] = {
    "page": "#f6f7f9",
    "surface": "#ffffff",
    "raised": "#f1f3f6",
    "line": "#e1e5ea",
    "line-strong": "#c4cbd4",
    "text": "#18202b",
    "muted": "#5b6675",
    "accent": "#0b63b0",
    "accent-soft": "#e6f0fa",
    "user": "#0072b2",
    "user-text": "#00619a",
    "assistant": "#009e73",
    "assistant-text": "#00714f",
    "assistant-soft": "#9fd8c6",
    "tool": "#b5659a",
    "tool-text": "#94457a",
    "client-event": "#4a9fd4",
    "server-event": "#7c8796",
    "response": "#8f9bab",
    "response-soft": "#d5dbe2",
    "interruption": "#d55e00",
    "interruption-text": "#ad4700",
    "warning": "#e69f00",
    "warning-text": "#875a00",
    "warning-soft": "#fdf3dc",
    "bad": "#c0362c",
    "bad-soft": "#fceae8",
    "good-text": "#1a6e3c",
    "good-soft": "#e4f4ea",
    "live": "#1f9d55",
}

DARK: Final[dict[str, str]] = {
    "page": "#0f1319",
    "surface": "#171d25",
    "raised": "#1f2731",
    "line": "#2a3440",
    "line-strong": "#435061",
    "text": "#e8edf3",
    "muted": "#9ca8b7",
    "accent": "#6cb6f2",
    "accent-soft": "#16304a",
    "user": "#4aa8e0",
    "user-text": "#7cc4f0",
    "assistant": "#1fb48a",
    "assistant-text": "#5dd3b0",
    "assistant-soft": "#1c5a49",
    "tool": "#cc79a7",
    "tool-text": "#e3a3c6",
    "client-event": "#56b4e9",
    "server-event": "#8a97a8",
    "response": "#74818f",
    "response-soft": "#3a4552",
    "interruption": "#f0803c",
    "interruption-text": "#ff9d62",
    "warning": "#e6a82b",
    "warning-text": "#f0c264",
    "warning-soft": "#3a2f14",
    "bad": "#f07a70",
    "bad-soft": "#43211f",
    "good-text": "#74d69b",
    "good-soft": "#153324",
    "live": "#3ecf7a",
}

SCHEMES: Final[dict[Scheme, dict[str, str]]] = {"light": LIGHT, "dark": DARK}

FONT: Final = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif'


def css() -> str:
    """The style sheet that defines every colour as `--name`, following the reader's colour scheme."""
    return (
        f":root {{ color-scheme: light dark; --font: {FONT};{_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{_variables(DARK)} }} }}\n"
    )


def _variables(colours: dict[str, str]) -> str:
    return "".join(f" --{name}: {value};" for name, value in colours.items())
