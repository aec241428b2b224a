"""What every figure shares: the look, and making recorded text harmless.

Plotly reads a small HTML of its own (`<a>`, `<b>`, `<span style>` …) in every text it draws, so text that was
recorded passes `plain` before it gets near a figure, and never into a `hovertemplate` itself.
"""

from __future__ import annotations

import unicodedata
from importlib import resources
from typing import Any, Final

import plotly.graph_objects as go

from dashboards.theme import FONT, SCHEMES, Scheme

HOVER_CHARACTERS: Final = 90


def plain(text: Any, most: int = HOVER_CHARACTERS) -> str:
    """`text` so that Plotly draws it as it is: no markup, no control or direction-changing characters, not too long."""
    clean = "".join(
        "\ufffd" if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Co", "Cn"} else sign for sign in str(text)
    )
    short = clean if len(clean) <= most else clean[: most - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def styled(figure: go.Figure, scheme: Scheme, *, height: int, revision: str) -> go.Figure:
    """Give a figure the product's look.

    Args:
        figure: changed in place.
        scheme: light or dark.
        height: pixels.
        revision: while this stays the same, the reader's zoom and choice of traces survive an update.
    """
    colours = SCHEMES[scheme]
    axis = {
        "gridcolor": colours["line"],
        "linecolor": colours["line-strong"],
        "zerolinecolor": colours["line"],
        "tickfont": {"color": colours["muted"], "size": 12},
        "automargin": True,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(
        template="none",
        height=height,
        uirevision=revision,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": colours["text"]},
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        hoverlabel={
            "bgcolor": colours["raised"],
            "bordercolor": colours["line-strong"],
            "font": {"family": FONT, "color": colours["text"]},
            "align": "left",
        },
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"color": colours["muted"], "size": 12},
        },
        bargap=0.25,
    )
    return figure


def as_json(figure: go.Figure) -> str:
    """The figure as Plotly's script takes it: `{"data", "layout"}`."""
    return str(figure.to_json(validate=False, engine="json"))


def plotly_script() -> bytes:
    """Plotly's script out of the installed package, so that pages ask nobody else for it."""
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
