"""The overview's charts: sessions, first-audio latency, tokens, interruptions and cost over time.

Times are Unix milliseconds, as Plotly counts them; the page moves them into the reader's zone.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from dashboards import words
from dashboards.figures.base import styled
from dashboards.format import share, usd
from dashboards.queries import Steps
from dashboards.theme import SCHEMES, Scheme

HEIGHT = 250
FEW = 5
_WHEN = "%{x|%b %d %H:%M}<extra></extra>"


def sessions(rows: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """Sessions per step. Rows: bucket, sessions."""
    return _bars(rows, steps, scheme, [("sessions", words.CHART_SESSIONS, "user")], words.CHART_SESSIONS)


def interruptions(rows: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """Interruptions per step. Rows: bucket, interruptions, interrupted and spoken (responses)."""
    series = [("interruptions", words.CHART_INTERRUPTIONS, "interruption")]
    figure = _bars(rows, steps, scheme, series, words.CHART_INTERRUPTIONS)
    shares = [
        (share(interrupted, spoken), spoken) for interrupted, spoken in rows.select("interrupted", "spoken").iter_rows()
    ]
    figure.update_traces(
        customdata=shares,
        hovertemplate=f"%{{y:,}} {words.CHART_INTERRUPTIONS.lower()}<br>{words.CHART_INTERRUPTED}<br>{_WHEN}",
    )
    return figure


def cost(rows: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """What sessions cost per step. Rows: bucket, cost_usd (NULL: nothing has a price), priced, unpriced."""
    figure = go.Figure()
    figure.add_bar(
        x=_times(rows["bucket"]),
        y=rows["cost_usd"].to_list(),
        width=steps.width * 820,
        offset=steps.width * 90,
        customdata=[
            (usd(amount), priced, f", {words.NOTE_UNPRICED.format(n=unpriced)}" if unpriced else "")
            for amount, priced, unpriced in rows.select("cost_usd", "priced", "unpriced").iter_rows()
        ],
        name=words.CHART_COST,
        marker={"color": SCHEMES[scheme]["tool"]},
        hovertemplate=f"%{{customdata[0]}} (n = %{{customdata[1]}}%{{customdata[2]}})<br>{_WHEN}",
    )
    return _dollars(figure, steps, scheme, words.CHART_COST)


def cost_per_minute(rows: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """What a minute cost per step. Rows: bucket, cost_per_minute_usd (NULL: unknown, a gap), priced."""
    figure = go.Figure()
    figure.add_scatter(
        x=_times([bucket + steps.width / 2 for bucket in rows["bucket"]]),
        y=rows["cost_per_minute_usd"].to_list(),
        customdata=[(usd(each), n) for each, n in rows.select("cost_per_minute_usd", "priced").iter_rows()],
        name=words.CHART_COST_PER_MINUTE,
        mode="lines+markers",
        line={"color": SCHEMES[scheme]["tool"], "width": 2},
        marker={"size": 7},
        hovertemplate=f"%{{customdata[0]}} {words.A_MINUTE} (n = %{{customdata[1]}})<br>{_WHEN}",
    )
    return _dollars(figure, steps, scheme, words.CHART_COST_PER_MINUTE)


def _dollars(figure: go.Figure, steps: Steps, scheme: Scheme, revision: str) -> go.Figure:
    figure.update_layout(showlegend=False)
    figure.update_yaxes(rangemode="tozero", nticks=6, tickprefix="$", fixedrange=True)
    return styled(_framed(figure, steps, scheme), scheme, height=HEIGHT, revision=revision)


def tokens(rows: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """Tokens per step, stacked. Rows: bucket, uncached_input_tokens, cached_input_tokens, output_tokens."""
    series = [
        ("cached_input_tokens", words.CHART_CACHED_INPUT, "response"),
        ("uncached_input_tokens", words.CHART_INPUT, "user"),
        ("output_tokens", words.CHART_OUTPUT, "assistant"),
    ]
    return _bars(rows, steps, scheme, series, words.CHART_TOKENS)


def latency(rows: pl.DataFrame, points: pl.DataFrame, steps: Steps, scheme: Scheme) -> go.Figure:
    """First-audio latency: percentiles per step where n allows, and each response where there are few.

    Args:
        rows: bucket, first_audio_n, first_audio_p50, first_audio_p95, first_audio_p99 (seconds; NULL: n too small).
        points: at_seconds, seconds, session_id, response_no, position.
        steps: how time is cut up.
        scheme: light or dark.
    """
    colours = SCHEMES[scheme]
    figure = go.Figure()
    figure.add_scatter(
        x=_times(points["at_seconds"]),
        y=points["seconds"].to_list(),
        customdata=points.select("response_no", "session_id", "position").rows(),
        name=words.CHART_RESPONSE,
        mode="markers",
        marker={"color": colours["assistant"], "size": 7, "opacity": 0.55},
        hovertemplate="%{y:.3f} s<br>%{x|%b %d %H:%M:%S}<br>" + words.CHART_RESPONSE_NO + "<extra></extra>",
    )
    middle = [bucket + steps.width / 2 for bucket in rows["bucket"]]
    for column, colour, dash in (("p50", "user", "solid"), ("p95", "warning", "dash"), ("p99", "interruption", "dot")):
        figure.add_scatter(
            x=_times(middle),
            y=rows[f"first_audio_{column}"].to_list(),
            customdata=rows["first_audio_n"].to_list(),
            name=column,
            mode="lines+markers",
            line={"color": colours[colour], "width": 2, "dash": dash},
            marker={"size": 6},
            hovertemplate=column + " %{y:.3f} s (n = %{customdata})<extra></extra>",
            visible=True if rows[f"first_audio_{column}"].count() else "legendonly",
        )
    figure.update_yaxes(rangemode="tozero", ticksuffix=" s", nticks=6, fixedrange=True)
    return styled(_framed(figure, steps, scheme), scheme, height=HEIGHT, revision="latency")


def _bars(
    rows: pl.DataFrame, steps: Steps, scheme: Scheme, series: Sequence[tuple[str, str, str]], revision: str
) -> go.Figure:
    figure = go.Figure()
    for column, name, colour in series:
        figure.add_bar(
            x=_times(rows["bucket"]),
            y=rows[column].fill_null(0).to_list(),
            width=steps.width * 820,  # milliseconds: 82 % of the step
            offset=steps.width * 90,
            name=name,
            marker={"color": SCHEMES[scheme][colour]},
            hovertemplate=f"%{{y:,}} {name.lower()}<br>{_WHEN}",
        )
    figure.update_layout(barmode="stack", showlegend=len(series) > 1)
    highest = rows.select(pl.sum_horizontal(column for column, _, _ in series).max()).item() or 0
    figure.update_yaxes(rangemode="tozero", nticks=6, tickformat="~s", fixedrange=True)
    if highest <= FEW:  # things that are counted have no halves
        figure.update_yaxes(dtick=1, range=[0, max(highest, 1) * 1.05])
    return styled(_framed(figure, steps, scheme), scheme, height=HEIGHT, revision=revision)


def _framed(figure: go.Figure, steps: Steps, scheme: Scheme) -> go.Figure:
    figure.update_xaxes(
        type="date",
        range=[steps.start * 1000, steps.end * 1000],
        showgrid=False,
        nticks=6,
        tickangle=0,
        ticks="outside",
        tickcolor=SCHEMES[scheme]["line-strong"],
    )
    return figure


def _times(seconds: Sequence[float] | pl.Series) -> list[float]:
    return [round(value * 1000) for value in seconds]
