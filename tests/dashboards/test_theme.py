import pytest

from dashboards import theme
from dashboards.theme import SCHEMES, Scheme


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


TEXTS = (
    "text", "muted", "accent", "user-text", "assistant-text", "tool-text", "interruption-text", "warning-text", "bad",
    "good-text",
)  # fmt: skip
ON_OWN_GROUND = (
    ("accent", "accent-soft"), ("bad", "bad-soft"), ("warning-text", "warning-soft"), ("good-text", "good-soft"),
    ("surface", "accent"),
)  # fmt: skip
LANES = ("user", "assistant", "tool", "client-event", "server-event", "response", "interruption")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ground", ["surface", "page", "raised"])
def test_texts_can_be_read(scheme: Scheme, text: str, ground: str) -> None:
    assert contrast(SCHEMES[scheme][text], SCHEMES[scheme][ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), ON_OWN_GROUND)
def test_badges_can_be_read(scheme: Scheme, text: str, ground: str) -> None:
    assert contrast(SCHEMES[scheme][text], SCHEMES[scheme][ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lane", LANES)
def test_bars_stand_out_from_the_card(scheme: Scheme, lane: str) -> None:
    assert contrast(SCHEMES[scheme][lane], SCHEMES[scheme]["surface"]) >= 2.7


def test_both_schemes_define_the_same_colours() -> None:
    assert theme.LIGHT.keys() == theme.DARK.keys()
    css = theme.css()
    assert all(f"--{name}: {value};" in css for colours in SCHEMES.values() for name, value in colours.items())
