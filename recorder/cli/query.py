"""`recorder query`: SQL over everything recorded."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from recorder.cli import bounds, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, PricesOption, open_catalog
from recorder.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = (
    ("recorder query --schema", "what can be asked: views and their columns"),
    ('recorder query "SELECT type, count(*) AS n FROM events GROUP BY type ORDER BY n DESC"', "events by type"),
    ('recorder query --csv "SELECT * FROM responses" > responses.csv', "a file for a spreadsheet"),
    ("recorder query - < report.sql", "SQL from a file"),
)

SCHEMA = """
    SELECT table_name AS "view", column_name AS "column", data_type AS type
    FROM information_schema.columns
    WHERE table_schema = 'main'
    ORDER BY table_name, ordinal_position
"""


def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="The query; `-` reads it from stdin.", show_default=False)
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    prices: PricesOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to print at most; 0 prints all.")] = 1000,
    memory_mb: Annotated[
        int, typer.Option(min=1, envvar="RECORDER_QUERY_MEMORY_MB", help="Memory for the query and its rows, in MiB.")
    ] = bounds.DEFAULT_MB,
    schema: Annotated[bool, typer.Option("--schema", help="List views and columns instead.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", envvar="RECORDER_QUERY_CSV", help="Print CSV with a line of headings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask in SQL (DuckDB's), read only.

    The views cover what is sealed and what is running: `events`, `parts`, `audio`, `drift` (what the vocabulary does
    not know), and the tables made from events: `sessions`, `turns`, `responses`, `interruptions` … A notice on stderr
    says when rows were left out. A query may take 30 s, and memory as `--memory-mb` says.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other", hint="Choose one.")
    if schema == (sql is not None):
        raise UsageError("give a query, or --schema", hint='recorder query "SELECT * FROM sessions"')
    text = sys.stdin.read() if sql == "-" else sql
    most = limit + 1 if limit else 2**62
    with open_catalog(data, prices) as catalog:
        with bounds.memory(memory_mb), bounds.deadline():
            frame = catalog.query(SCHEMA) if text is None else catalog.query_user(text, max_rows=most)
        shown = frame.head(limit) if limit and not schema else frame
        bounds.check_answer(int(shown.estimated_size()), memory_mb)
        if as_json:
            output.print_json(shown.iter_rows(named=True))
        elif as_csv:
            _print_csv(shown)
        else:
            _print_frame(shown)
    if shown.height < frame.height:
        output.note(f"only the first {limit:,} rows are shown; --limit 0 prints all")


def _print_csv(frame: pl.DataFrame) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(output.csv_text, frame.columns))
    for row in frame.iter_rows():
        writer.writerow(_csv_cell(value) for value in row)


def _csv_cell(value: object) -> object:
    """Numbers as they are, text as `csv_text` has it, the rest as JSON; on a terminal, text may not command it."""
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else output.to_json(value)
    text = output.csv_text(value if isinstance(value, str) else output.to_json(value).strip('"'))
    return output.printable(text) if sys.stdout.isatty() else text


def _print_frame(frame: pl.DataFrame) -> None:
    right = frozenset(number for number, kind in enumerate(frame.dtypes) if kind.is_numeric())
    rows = [list(map(output.plain, row)) for row in frame.iter_rows()]
    if output.fits(frame.columns, rows):
        output.print_table(frame.columns, rows, right=right)
    else:
        output.print_records(frame.columns, rows)
    if frame.is_empty():
        output.note("no rows")
