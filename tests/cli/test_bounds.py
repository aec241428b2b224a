"""What user's SQL may take of the machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from recorder.cli import bounds
from recorder.errors import QueryError

Run = Callable[..., Result]

MUCH = [
    "SELECT printf('%500000000d', 1)",
    "SELECT length(format('{:>500000000}', 'a'))",
    "SELECT length(repeat('a', 500000000))",
    "SELECT lpad('a', 500000000, 'b')",
    "SELECT length(rpad('a', 500000000, 'b'))",
    "SELECT length(bitstring('1', 2000000000))",
    "SELECT repeat('a', 10000000) FROM range(100)",
    "SELECT string_agg(repeat('a', 1000000), '') FROM range(500)",
    "SELECT list(repeat('a', 1000000)) FROM range(500)",
    "SELECT replace(repeat('a', 30000), 'a', repeat('b', 30000))",
    "SELECT regexp_replace(repeat('a', 30000), 'a', repeat('b', 30000), 'g')",
    "SELECT range(100000000)",
    "SELECT length(generate_series(1, 100000000))",
    "SELECT list_resize([1], 1000000000)",
    "SELECT [x FOR x IN range(100000000)]",
    "SELECT map(range(50000000), range(50000000))",
    "SELECT list_transform(range(1000), lambda x: repeat('a', 1000000))",
    "SELECT list_reduce([repeat('a', 1000) FOR x IN range(30)], lambda a, b: a || a)",
    "SELECT json_array(repeat('a', 500000000))",
    "SELECT to_base64(repeat('a', 500000000)::BLOB)",
    "SELECT strftime(now(), repeat('%A', 50000000))",
    "WITH RECURSIVE r(s) AS (SELECT 'aa' UNION ALL SELECT s || s FROM r WHERE length(s) < 1000000000) FROM r",
    "FROM repeat_row(repeat('a', 1000000), num_rows = 1000)",
]


@pytest.mark.parametrize("sql", MUCH)
def test_no_query_takes_more_memory_than_it_may(run: Run, sql: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    failed = run("query", sql, "--memory-mb", "100", "--csv").exception
    assert isinstance(failed, QueryError)
    assert "memory" in failed.message
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert run("query", "SELECT count(*) > 0 AS there FROM events", "--csv").stdout == "there\ntrue\n"


def test_printing_an_answer_counts_too(run: Run) -> None:
    sql = "SELECT range(3000000) AS numbers"
    assert isinstance(run("query", sql, "--memory-mb", "60").exception, QueryError)
    assert run("query", sql, "--memory-mb", "1000", "--csv").exit_code == 0


def test_what_nothing_interrupts_ends_with_its_process() -> None:
    program = "import time; from recorder.cli import bounds\nwith bounds.deadline(0.1): time.sleep(100)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == QueryError.exit_code
    assert "could not be stopped" in done.stderr


def test_without_a_system_that_tells_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_STATUS", Path("/nowhere"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounds.memory(1):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
