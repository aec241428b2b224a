from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from recorder.errors import QueryError, UsageError

Run = Callable[..., Result]

BY_DIRECTION = "SELECT direction, count(*) AS n FROM events WHERE session_id LIKE '0199c2f1%' GROUP BY 1 ORDER BY 1"


def test_a_table(run: Run) -> None:
    result = run("query", BY_DIRECTION)
    assert [line.split() for line in result.stdout.splitlines() if "─" not in line] == [
        ["direction", "n"],
        ["client", "51"],
        ["recorder", "2"],
        ["server", "16"],
    ]


@pytest.mark.parametrize("sql", ["SELECT * FROM sesions", "SELECT modle FROM sessions"])
def test_misspelt_names_lead_to_the_list_of_names(run: Run, sql: str) -> None:
    failed = run("query", sql).exception
    assert isinstance(failed, QueryError)
    assert failed.hint == "`recorder query --schema` lists the views and their columns."


def test_json_and_csv(run: Run) -> None:
    assert json.loads(run("query", BY_DIRECTION, "--json").stdout)[0] == {"direction": "client", "n": 51}
    assert run("query", BY_DIRECTION, "--csv").stdout == "direction,n\nclient,51\nrecorder,2\nserver,16\n"


def test_values_of_all_kinds(run: Run) -> None:
    sql = (
        "SELECT NULL AS a, 1.5::DOUBLE AS b, 'x,\"y' AS c, TIMESTAMP '2026-01-02 03:04:05' AS d, [1, 2] AS e, true AS f"
    )
    row = json.loads(run("query", sql, "--json").stdout)[0]
    assert row == {"a": None, "b": 1.5, "c": 'x,"y', "d": "2026-01-02T03:04:05", "e": [1, 2], "f": True}
    rows = list(csv.reader(io.StringIO(run("query", sql, "--csv").stdout)))
    assert rows[1] == ["", "1.5", 'x,"y', "2026-01-02T03:04:05", "[1,2]", "true"]


def test_no_text_in_csv_is_a_formula(run: Run) -> None:
    texts = ['=cmd|"/C calc"!A0', "+1+1", "-2+3", "@SUM(1)", "\tx", " =1", "-5", "+1.5e3", "a=b", "\uff1d1", ""]
    values = ", ".join("('" + text + "')" for text in texts)
    sql = f'SELECT t AS "=t", -5 AS n FROM (VALUES {values}) v(t)'
    rows = list(csv.reader(io.StringIO(run("query", sql, "--csv").stdout)))
    assert rows[0] == ["'=t", "n"]
    safe = {"-5", "+1.5e3", "a=b", ""}
    assert [row[0] for row in rows[1:]] == [text if text in safe else f"'{text}" for text in texts]
    assert {row[1] for row in rows[1:]} == {"-5"}
    assert [row["=t"] for row in json.loads(run("query", sql, "--json").stdout)] == texts


def test_sums_and_decimals_are_numbers(run: Run) -> None:
    sql = "SELECT sum(x) AS s, 1.50::DECIMAL(9, 2) AS d, 12345678901234567890123::HUGEINT AS h FROM range(4) t(x)"
    rows = json.loads(run("query", sql, "--json").stdout)
    assert rows == [{"s": 6, "d": 1.5, "h": 12345678901234567890123}]
    assert run("query", "SELECT sum(x) AS s FROM range(4) t(x)", "--csv").stdout == "s\n6\n"


def test_sql_from_stdin(run: Run) -> None:
    assert run("query", "-", "--csv", stdin="SELECT 1 AS one").stdout == "one\n1\n"


def test_the_schema_lists_views_and_columns(run: Run) -> None:
    rows = json.loads(run("query", "--schema", "--json").stdout)
    columns = {(row["view"], row["column"]) for row in rows}
    assert {("events", "position"), ("sessions", "model"), ("responses", "response_id"), ("parts", "bytes")} <= columns
    assert not any("live" in row["view"] for row in rows)


def test_a_limit_that_hides_rows_is_said(run: Run) -> None:
    result = run("query", "SELECT * FROM range(10)", "--limit", "3", "--csv")
    assert result.stdout.splitlines() == ["range", "0", "1", "2"]
    assert result.stderr == "only the first 3 rows are shown; --limit 0 prints all\n"
    assert run("query", "SELECT * FROM range(3)", "--limit", "3").stderr == ""
    assert len(run("query", "SELECT * FROM range(2000)", "--limit", "0", "--csv").stdout.splitlines()) == 2001


def test_hostile_values_are_neutralised(run: Run) -> None:
    result = run("query", "SELECT chr(27) || '[31mred' AS \"h\u202ead\"")
    assert "\\x1b[31mred" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_no_rows_is_said(run: Run) -> None:
    assert run("query", "SELECT 1 AS a WHERE false").stderr == "no rows\n"


@pytest.mark.parametrize(
    "sql", ["SELEC", "SELECT * FROM nothing", "DROP VIEW sessions", "COPY (SELECT 1) TO '/tmp/x'", "SELECT 1; SELECT 2"]
)
def test_what_is_not_reading_is_refused(run: Run, sql: str) -> None:
    assert isinstance(run("query", sql).exception, QueryError)


@pytest.mark.parametrize("arguments", [[], ["SELECT 1", "--schema"], ["SELECT 1", "--csv", "--json"]])
def test_contradictions_are_refused(run: Run, arguments: list[str]) -> None:
    assert isinstance(run("query", *arguments).exception, UsageError)
