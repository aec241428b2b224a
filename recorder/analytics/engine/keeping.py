"""An engine that has the models' rows in memory: what pages ask every second is answered without opening a file.

Rows of closed sessions are read when they come, once, and with what is added to them: costs above all, which are what
takes longest to reckon. They go with their sessions. Events stay in their files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from recorder.analytics.engine.connection import quoted
from recorder.analytics.engine.reckoning import Files, Reckoner, reckoned_models
from recorder.analytics.engine.serving import Engine
from recorder.analytics.prices import Price
from recorder.analytics.registry import stored_models

# ruff: noqa: S608 - made of models' and columns' names of our own, quoted

KEPT_ROWS: Final = 1_000_000
"""Of more stored rows than that it is better not to keep any: they take some 420 bytes each, added columns and views
of them included; those of ten million events are some 140,000."""

_MEMORY: Final = "1536MB"  # what is kept, and what queries may take in any engine


class KeepingEngine(Engine):
    """An `Engine` for one that stays. The same views with the same rows; `update` takes those of models otherwise."""

    def __init__(self, directories: Sequence[Path] = (), *, prices: Sequence[Price] = ()) -> None:
        super().__init__(directories, prices=prices, memory_limit=_MEMORY)
        self._reckoner = Reckoner(directories, prices=prices)
        self._reckoned = reckoned_models()
        self._kept = list(dict.fromkeys([*stored_models(), *self._reckoned]))
        self._once_running: set[str] = set()
        with self.changing() as cursor:
            cursor.execute("CREATE SCHEMA kept")
            cursor.execute("CREATE SCHEMA running")
            for name in self._kept:
                cursor.execute(f"CREATE TABLE kept.{quoted(name)} AS FROM main.{quoted(name)} LIMIT 0")
            for name in self._reckoned:
                cursor.execute(f"CREATE TABLE running.{quoted(name)} AS FROM kept.{quoted(name)}")
            for statement in self._views():
                cursor.execute(statement)

    def close(self) -> None:
        """Close the engine; its queries fail from now on."""
        super().close()
        self._reckoner.close()

    def keep(
        self, *, gone: Collection[str], come: Files, others: Files | None, live: Mapping[str, pa.Table] | None
    ) -> None:
        """Take in what changed, all at once: no query sees a part of it.

        Args:
            gone: ids of the closed sessions whose rows go.
            come: the models' files of those that come, also in the place of others that go.
            others: all files of other data sets; None if they are as they were.
            live: as for `update`.

        Raises:
            UnreadableFileError: a file is gone, or damaged; nothing was changed.
            QueryError: rows or files do not fit; nothing was changed.
        """
        rows = self._reckoner.of_files(come) if any(come.files.values()) or come.beside else {}
        running = self._reckon_running(live or {})
        with self.changing() as cursor:
            if others is not None:
                self._show_files(cursor, *others)
            self._show_live(cursor, live or {})
            if gone:
                self._drop(cursor, gone)
            for name, table in rows.items():
                _insert(cursor, f"kept.{quoted(name)}", table)
            for name in sorted(self._once_running | running.keys()) if live is not None else ():
                self._once_running.add(name)
                cursor.execute(f"DELETE FROM running.{quoted(name)}")
                _insert(cursor, f"running.{quoted(name)}", running.get(name))

    def _reckon_running(self, live: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        models = {name: rows for name, rows in live.items() if name in stored_models()}
        return self._reckoner.of_rows(models) if any(rows.num_rows for rows in models.values()) else {}

    def _drop(self, cursor: duckdb.DuckDBPyConnection, gone: Collection[str]) -> None:
        """The other rows in new tables: what goes is to leave memory, too."""
        cursor.register("gone", pa.table({"session_id": pa.array(sorted(gone), pa.string())}))
        for name in self._kept:
            table = f"kept.{quoted(name)}"
            cursor.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {table} ANTI JOIN gone USING (session_id)")
        cursor.unregister("gone")

    def _views(self) -> list[str]:
        statements = []
        for name in stored_models():
            columns = ", ".join(quoted(column) for column in self._columns[name])
            sources = f"SELECT {columns} FROM kept.{quoted(name)} UNION ALL SELECT {columns} FROM live.{quoted(name)}"
            statements.append(f"CREATE OR REPLACE VIEW stored.{quoted(name)} AS {sources}")
        for name in self._reckoned:
            sources = f"FROM kept.{quoted(name)} UNION ALL FROM running.{quoted(name)}"
            statements.append(f"CREATE OR REPLACE VIEW main.{quoted(name)} AS {sources}")
        return statements


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table | None) -> None:
    if rows is not None and rows.num_rows:
        cursor.register("incoming", rows)
        cursor.execute(f"INSERT INTO {table} BY NAME FROM incoming")
        cursor.unregister("incoming")
