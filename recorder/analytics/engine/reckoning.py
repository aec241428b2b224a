"""The rows of models with what is added to them, made from stored rows alone: in files, or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from recorder.analytics.engine.connection import quoted
from recorder.analytics.engine.serving import Engine
from recorder.analytics.prices import Price
from recorder.analytics.registry import built_in_models, stored_models

# ruff: noqa: S608 - made of models' names of our own, quoted


class Files(NamedTuple):
    """Data files of some sessions, as `Engine.update` takes them."""

    files: Mapping[str, Sequence[Path]]
    by_name: set[str]
    beside: Mapping[str, Sequence[pa.dataset.Dataset]]


_NO_FILES: Final = Files(dict.fromkeys(stored_models(), ()), set(), {})


def reckoned_models() -> list[str]:
    """Names of the models whose rows are not as they are stored: views, and those to which columns are added."""
    return [model.name for model in built_in_models().values() if model.view or model.added]


class Reckoner:
    """Makes rows in a database of its own. Not safe for use from several threads.

    Args:
        directories: where segment files may lie.
        prices: what costs are reckoned with.
    """

    def __init__(self, directories: Sequence[Path], *, prices: Sequence[Price]) -> None:
        self._engine = Engine(directories, prices=prices)
        self._steps = [model.name for model in built_in_models().values() if model.view and model.internal]
        self._no_rows = {name: self._engine.table(f"live.{quoted(name)}") for name in stored_models()}
        with self._engine.changing() as cursor:
            for name in self._steps:  # what others are made of is made once
                cursor.execute(f"ALTER VIEW main.{quoted(name)} RENAME TO {_view_of(name)}")
                cursor.execute(f"CREATE TABLE main.{quoted(name)} AS FROM {_view_of(name)} LIMIT 0")

    def close(self) -> None:
        """Close the database."""
        self._engine.close()

    def of_files(self, files: Files) -> dict[str, pa.Table]:
        """The rows of every model and view over the files of whole sessions.

        Raises:
            UnreadableFileError: a file is gone, or damaged.
        """
        self._engine.update(files=files.files, by_name=files.by_name, beside=files.beside)
        try:
            return self._made([*stored_models(), *reckoned_models()])
        finally:
            self._engine.update(**_NO_FILES._asdict())

    def of_rows(self, stored: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        """The rows of `reckoned_models` over stored rows of whole sessions; of those that have any."""
        self._engine.update(live=stored)
        filled = {name for name, rows in stored.items() if rows.num_rows}
        try:
            return self._made([name for name in reckoned_models() if name in filled or name not in stored_models()])
        finally:
            self._engine.update(live={name: self._no_rows[name] for name in filled})

    def _made(self, names: Sequence[str]) -> dict[str, pa.Table]:
        with self._engine.changing() as cursor:
            for name in self._steps:
                cursor.execute(f"DELETE FROM main.{quoted(name)}")
                cursor.execute(f"INSERT INTO main.{quoted(name)} FROM {_view_of(name)}")
        return {name: self._engine.table(f"main.{quoted(name)}") for name in dict.fromkeys(names)}


def _view_of(name: str) -> str:
    return quoted(f"{name} as a view")
