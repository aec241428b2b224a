"""What readers see of the models, as SQL: stored rows with what is added to them, and views. Text only.

`stored.<model>` has the rows as they were written, `stored.price_ranges` what they cost. Binding the views is most of a
short query's time, so they are flat, without chains of WITH. What is added is joined from the left, at most one row for
a key: DuckDB leaves joins out whose columns nobody asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

from recorder.analytics.registry import Column, Model, built_in_models

# ruff: noqa: S608 - made of model files and column names of our own


def view_statements() -> Iterator[str]:
    """Statements that make a view of each model that is shown or a view, where the tables that they read are there."""
    models = [model for model in built_in_models().values() if model.view or not model.internal]
    for model in sorted(models, key=lambda model: not model.view):  # views first; else in order
        yield f'CREATE VIEW main."{model.name}" AS {_query(model)}'


def _query(model: Model) -> str:
    if model.internal:
        return model.query
    if model.view:
        return f"SELECT {_cast('shown', model.columns)} FROM ({model.query}\n) AS shown"
    if not model.added:
        return f'FROM stored."{model.name}"'
    key = " AND ".join(f"added_rows.{name} = stored_rows.{name}" for name in model.key)
    return (
        f'SELECT stored_rows.*, {_cast("added_rows", model.added)} FROM stored."{model.name}" AS stored_rows '
        f"LEFT JOIN ({model.added_query}\n) AS added_rows ON {key}"
    )


def _cast(relation: str, columns: tuple[Column, ...]) -> str:
    given = {column.name: column.formula or f'{relation}."{column.name}"' for column in columns}
    return ", ".join(f'CAST({given[column.name]} AS {column.type}) AS "{column.name}"' for column in columns)
