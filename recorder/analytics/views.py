"""What readers see of the models, as SQL: stored rows with what is added to them, and views. Text only.

`stored.<model>` has the rows as they were written. Joins to what is added are left joins to at most one row for a key,
so that DuckDB leaves out those whose columns nobody asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

from recorder.analytics.registry import Column, Model, shown_models

# ruff: noqa: S608 - made of model files and column names of our own


def view_statements() -> Iterator[str]:
    """Statements that make a view of each shown model, where `prices` and `stored.<model>` are there."""
    models = sorted(shown_models().values(), key=lambda model: not model.view)  # views first; else in order
    for model in models:
        yield f'CREATE VIEW main."{model.name}" AS {_query(model)}'


def _query(model: Model) -> str:
    if model.view:
        return f"SELECT {_cast('shown', model.columns)} FROM ({model.query}\n) AS shown"
    if not model.added:
        return f'FROM stored."{model.name}"'
    key = ", ".join(model.key)
    return (
        f'SELECT stored_rows.*, {_cast("added_rows", model.added)} FROM stored."{model.name}" AS stored_rows '
        f"LEFT JOIN ({model.added_query}\n) AS added_rows USING ({key})"
    )


def _cast(relation: str, columns: tuple[Column, ...]) -> str:
    return ", ".join(f'CAST({relation}."{column.name}" AS {column.type}) AS "{column.name}"' for column in columns)
