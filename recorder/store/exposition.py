"""Prometheus' text format 0.0.4: numbers as a page that is scraped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from recorder.store.counters import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """One line."""

    labels: tuple[tuple[str, str], ...]
    value: float
    suffix: str = ""


def exposition(families: Iterable[tuple[Metric, Iterable[Sample]]]) -> str:
    """The page.

    Args:
        families: each metric once, with its samples, whose labels tell them apart.
    """
    lines: list[str] = []
    for metric, samples in families:
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
        lines += (_line(metric, sample) for sample in samples)
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """A finite number as the format has it: without a point where there is nothing after it."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _line(metric: Metric, sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
    return f"{metric.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
