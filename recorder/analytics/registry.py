"""The SQL models on disk: one folder each, `sql/<model>/{query.sql, model.yaml}`.

A model is a SELECT over `SOURCES` and other models, and a description of what comes out: grain, key,
columns with type, unit and meaning, and checks (queries whose rows are failures). See docs/models.md.

What depends on prices is not stored, since history can be repriced: a model is a view then, or adds columns to its
stored rows as they are read (`added.sql`).
"""

from __future__ import annotations

from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import msgspec
import yaml

from recorder.errors import RecorderError

SOURCES = frozenset({"events", "appends", "deltas", "other_events", "event_types"})
"""Relations that every model may read without depending on them."""

_BUILT_IN = Path(__file__).parent / "sql"


class ModelError(RecorderError):
    """A model folder is not what it should be.

    Attributes:
        model: the folder's name.
    """

    exit_code = 5

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"model {model!r}: {problem}", hint="See docs/models.md for what a model folder holds.")
        self.model = model
        self.problem = problem


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a model.

    Attributes:
        name: snake_case, the unit as suffix.
        type: DuckDB's name of the type.
        description: what the value means; says when it is NULL.
        unit: s, ms, ns, tokens, …; "" for what has none.
        formula: of an added column that `added.sql` does not give: SQL over `stored_rows` and `added_rows`.
    """

    name: str
    type: str
    description: str
    unit: str = ""
    formula: str = ""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement that holds on any store: its query returns the rows that break it."""

    name: str
    sql: str


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `model.yaml` holds."""

    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    depends_on: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    caveats: str = ""
    example: str = ""
    internal: bool = False
    only_if: str = ""
    view: bool = False
    added: tuple[Column, ...] = ()


class Model(msgspec.Struct, frozen=True):
    """One model as loaded.

    Attributes:
        name: the folder's name, and the relation's.
        query: the SELECT's text.
        grain: what one row is.
        key: columns that name a row; rows are ordered by them.
        columns: in output order. Internal models need none.
        depends_on: models that the query reads.
        checks: its own statements about its rows.
        caveats: what its numbers cannot tell, for the reference.
        example: a query, for the reference.
        internal: a step on the way to other models: neither stored nor shown.
        only_if: a query after `SELECT …`; the model has rows only where it gives one. "" where that needs a look.
        view: computed whenever it is read, from `stored.<model>`, other views and `prices`; not stored.
        added: columns beside the stored ones, computed whenever rows are read.
        added_query: the SELECT that gives them, with the key: one row for a key, or none. Reads what views read.
    """

    name: str
    query: str
    description: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    depends_on: tuple[str, ...]
    checks: tuple[Check, ...]
    caveats: str
    example: str
    internal: bool
    only_if: str
    view: bool
    added: tuple[Column, ...]
    added_query: str

    @property
    def shown_columns(self) -> tuple[Column, ...]:
        """The columns that readers see: the stored ones, then the added ones."""
        return self.columns + self.added

    def all_checks(self) -> tuple[Check, ...]:
        """The model's own checks, and that its key names each row once."""
        key = ", ".join(self.key)
        unique = f"SELECT {key}, count(*) AS n FROM {self.name} GROUP BY ALL HAVING n > 1"  # noqa: S608 (own names)
        return (Check(name="key_is_unique", sql=unique), *self.checks)


def load_models(folder: Path) -> dict[str, Model]:
    """All models under `folder`, each after those that it depends on.

    Raises:
        ModelError: a folder lacks a file, its description is wrong, or dependencies are unknown or circular.
    """
    models = {path.name: _load(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    for model in models.values():
        for needed in model.depends_on:
            if needed not in models:
                raise ModelError(model.name, f"depends on {needed!r}, which does not exist")
    graph = {name: sorted(model.depends_on) for name, model in models.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ModelError(error.args[1][0], f"depends on itself: {circle}") from error
    return {name: models[name] for name in order}


@cache
def built_in_models() -> dict[str, Model]:
    """The models that come with the recorder, in order of dependency."""
    return load_models(_BUILT_IN)


def stored_models() -> dict[str, Model]:
    """The built-in models whose rows are stored: neither internal nor views."""
    return {name: model for name, model in shown_models().items() if not model.view}


def shown_models() -> dict[str, Model]:
    """The built-in models that readers see, as stored rows or views: all but the internal ones."""
    return {name: model for name, model in built_in_models().items() if not model.internal}


def _load(folder: Path) -> Model:
    text, query = _text(folder, "model.yaml"), _select(folder, "query.sql")
    try:
        said = msgspec.convert(yaml.safe_load(text), _Description)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ModelError(folder.name, f"model.yaml: {' '.join(str(error).split())}") from error
    _check_columns(folder.name, said)
    added = _select(folder, "added.sql") if said.added else ""
    facts = {name: getattr(said, name) for name in said.__struct_fields__}
    return Model(name=folder.name, query=query, added_query=added, **facts)


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(folder.name, f"cannot read {error.filename}: {error.strerror}") from error


def _select(folder: Path, name: str) -> str:
    return _text(folder, name).strip().rstrip(";")


def _check_columns(model: str, said: _Description) -> None:
    names = [column.name for column in said.columns + said.added]
    if not names and (said.only_if or not said.internal):
        raise ModelError(model, "model.yaml names no columns")
    if len(set(names)) != len(names):
        raise ModelError(model, "model.yaml names a column twice")
    missing = [name for name in said.key if names and name not in names]
    if missing:
        raise ModelError(model, f"key column {missing[0]!r} is not among its columns")
