"""Figures over many sessions, as `recorder stats` has them."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.schemas import Aggregates, AggregateShape, Figure, Statistics
from api.store import Store
from recorder.analytics.stats import Aggregate, aggregate, aggregates, dimensions_of, measure, unpriced_models

Name = StrEnum("Name", {name: name for name in aggregates()})  # type: ignore[misc]  # the folders are the names


def router(store: Store) -> APIRouter:
    """`/api/v1/stats` and `/api/v1/stats/{name}`."""
    routes = APIRouter(prefix="/api/v1/stats", tags=["stats"])

    @routes.get("")
    def list_statistics() -> Aggregates:
        """What there is, with its dimensions and figures."""
        return Aggregates(data=[_shape(one) for one in aggregates().values()])

    @routes.get("/{name}")
    def statistics(
        name: Name,
        *,
        by: Annotated[
            list[str] | None, Query(description="Dimensions, or `label:KEY`; may be repeated. `none`: all in one.")
        ] = None,
        since: Annotated[datetime | None, Query(description="Sessions opened then or later.")] = None,
        until: Annotated[datetime | None, Query(description="Sessions opened before.")] = None,
    ) -> Statistics:
        """The figures, one row a group."""
        catalog = store.catalog()
        wanted = [] if by == ["none"] else by
        frame = measure(catalog, name, by=wanted, since=since, until=until)
        priced = any(column.unit.startswith("USD") for column in aggregate(name).columns)
        return Statistics(
            name=name,
            by=list(dimensions_of(aggregate(name), wanted)),
            data=[{key: _plain(value) for key, value in row.items()} for row in frame.iter_rows(named=True)],
            unpriced_models=unpriced_models(catalog, since=since, until=until) if priced else [],
        )

    return routes


def _shape(one: Aggregate) -> AggregateShape:
    figures = [Figure(name=column.name, unit=column.unit, description=column.description) for column in one.columns]
    return AggregateShape(
        name=one.name,
        description=one.description,
        caveats=one.caveats,
        dimensions=list(one.dimensions),
        by=list(one.by),
        always=one.always,
        figures=figures,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
