"""The page docs/stats.md, made from what the aggregates say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from recorder.analytics.stats import COMMON, Aggregate, aggregates

ORDER: Final = (
    "sessions",
    "latency",
    "responses",
    "interruptions",
    "context",
    "usage",
    "cost",
    "tools",
    "mcp",
    "transcription",
    "errors",
    "limits",
    "pacing",
    "proxy",
)

_PREFACE: Final = """\
# Statistics

Figures over many sessions: `recorder stats NAME` for people (`--json` and `--csv` for programs),
[`/api/v1/stats/{name}`](api.md) over HTTP. Each is one SQL query over the derived tables
(`recorder/analytics/aggregates/<name>/`), in portable SQL; this page is made from their descriptions.

```
recorder stats --since 7d                        # an overview, each figure with its course over the days
recorder stats latency --by model,day --since 30d
recorder stats cost --by label:team --json
```

**Groups.** All can be grouped by `day` (UTC, on which the session opened), `model`, `upstream`, `status`, `source` and
`session`, by any label (`label:KEY`), and by what their sections name. Where what is counted has a model of its own
(a response, a transcription), `model` is that; else it is the session's. `--by none` puts all in one row.

**Percentiles** are interpolated between the two nearest values, and come with their number, `n` or `…_n`. The median
needs one value, the 95th percentile 20, the 99th 100; below that, and wherever a figure cannot be had, it is NULL
(a dash in tables), never 0. A `…_ratio` is a share, NULL of nothing.

**Periods.** `--since` and `--until` choose sessions by when they opened. Recordings without times have no day: they
count where no period is asked for. Running sessions count as far as they have come.

Out-of-band responses are in `responses`, `usage` and `cost`, and in no latency and no interruption.
"""


def stats_reference() -> str:
    """The text of docs/stats.md."""
    known = aggregates()
    links = "\n".join(f"- [`{name}`](#{name}): {_first_sentence(known[name])}" for name in ORDER)
    return "\n".join([_PREFACE, links, *(line for name in ORDER for line in _section(known[name]))]) + "\n"


def _first_sentence(one: Aggregate) -> str:
    return one.description.strip().rstrip(".")[0].lower() + one.description.strip().rstrip(".")[1:]


def _section(one: Aggregate) -> Iterator[str]:
    own = [name for name, sql in one.dimensions.items() if name not in COMMON or sql != COMMON[name]]
    yield f"\n## {one.name}\n\n{one.description.strip()}\n"
    always = (
        f" Always by `{one.always}`" + (f" ({', '.join(one.values)})." if one.values else ".") if one.always else ""
    )
    more = [f"`{name}`" for name in own if name != one.always and name not in one.by]
    yield f"By {_listed(one.by)} where nobody says{'; also by ' + ', '.join(more) if more else ''}.{always}\n"
    yield "| figure | unit | meaning |\n|---|---|---|"
    for column in one.columns:
        yield f"| `{column.name}` | {column.unit} | {column.description.strip()} |"
    if one.caveats:
        yield f"\n**Mind:** {one.caveats.strip()}"
    yield f"\n```\nrecorder stats {one.name} --by {','.join((*one.by, 'day'))} --since 30d\n```"


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)
