"""Attacks on `query_user`: whoever may ask may read the views, and do nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorder.analytics.engine import Engine
from recorder.errors import QueryError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segments")
    pq.write_table(pa.table({"session_id": ["s"]}), folder / "sessions.parquet")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with Engine([folder], threads=2, memory_limit="200MB") as engine:
        engine.set_files("sessions", [folder / "sessions.parquet"], by_name=True)
        yield engine


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT session_id FROM sessions", 1),
        ("FROM sessions;", 1),
        ("-- a comment\nWITH s AS (FROM sessions) SELECT * FROM s", 1),
        ("VALUES (1), (2)", 2),
        ("DESCRIBE sessions", None),
        ("SUMMARIZE sessions", None),
        ("SHOW TABLES", None),
        ("/* a plan */ EXPLAIN SELECT 1", None),
        ("explain analyze SELECT 1", None),
        ("SELECT * FROM range(5) UNION ALL FROM generate_series(1, 2)", 7),
        ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) FROM r", 4),
        ("SELECT unnest([1, 2, 3])", 3),
    ],
)
def test_reading_is_allowed(engine: Engine, sql: str, rows: int | None) -> None:
    found = engine.query_user(sql).height
    assert found == rows if rows is not None else found > 0


COPIES = "WITH t AS (COPY (SELECT 1) TO '{folder}/written.csv') FROM t"
ATTACKS = [
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW sessions",
    "INSERT INTO live.sessions (session_id) VALUES ('x')",
    "DELETE FROM event_types",
    "WITH t AS (DELETE FROM event_types RETURNING *) FROM t",
    "WITH t AS (INSERT INTO live.sessions (session_id) VALUES ('x') RETURNING *) FROM t",
    "SELECT count(*) FROM sessions WHERE EXISTS (WITH t AS (DELETE FROM event_types RETURNING *) FROM t)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW sessions AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "COPY (SELECT 1) TO '{folder}/written.csv'",
    COPIES,
    "EXPLAIN ANALYZE " + COPIES,
    "EXPLAIN (ANALYZE) " + COPIES,
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/written.csv'",
    "FROM query('" + COPIES.replace("'", "''") + "')",
    "FROM json_execute_serialized_sql(json_serialize_sql('" + COPIES.replace("'", "''") + "'))",
    "SELECT (SELECT max(a) FROM query('SELECT 1 AS a'))",
    "EXPORT DATABASE '{folder}'",
    "COPY sessions FROM '/etc/passwd'",
    "FROM read_csv('/etc/passwd')",
    "FROM main.read_csv('/etc/passwd')",
    "FROM READ_TEXT('/etc/passwd')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_text('{folder}/../../../../../../etc/passwd')",
    "FROM '/etc/passwd'",
    "FROM '/etc/passwd.csv'",
    "DESCRIBE FROM '/etc/passwd.csv'",
    "SUMMARIZE '/etc/passwd.csv'",
    "FROM '{folder}/sessions.parquet'",
    "FROM read_parquet('{folder}/*.parquet')",
    "FROM glob('{folder}/*')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('{folder}/sessions.parquet')",
    "FROM 'http://127.0.0.1:9/x.parquet'",
    "FROM read_json('s3://bucket/x.json')",
    "ATTACH ':memory:' AS other",
    "ATTACH '{folder}/other.db'",
    "DETACH memory",
    "USE information_schema",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 1",
    "RESET lock_configuration",
    "SET VARIABLE a = 1",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL checkpoint()",
    "FROM force_checkpoint()",
    "FROM enable_logging(storage = 'file', storage_config = {'path': '{folder}/log'})",
    "SELECT getenv('HOME')",
    "FROM duckdb_secrets()",
    "FROM arrow_scan(1, 2, 3)",
    "FROM python_map_function(1)",
    "FROM create_external_resource('a')",
    "FROM read_duckdb('{folder}/other.db')",
    "FROM duckdb_settings()",
    "FROM duckdb_logs()",
    "FROM query_table('sessions')",
    "FROM test_all_types()",
    "SELECT * FROM histogram_values(sessions, session_id)",
    "COPY sessions TO '{folder}/written.parquet'",
    "IMPORT DATABASE '{folder}'",
    "SET GLOBAL memory_limit = '100GB'",
    "SET SESSION enable_external_access = true",
    "PRAGMA memory_limit = '100GB'",
    "UPDATE event_types SET type = 'x'",
    "ALTER TABLE event_types ADD COLUMN x INT",
    "TRUNCATE event_types",
    "DROP TABLE event_types",
    "CREATE SECRET (TYPE s3)",
    "COMMENT ON TABLE event_types IS 'x'",
    "ANALYZE event_types",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN TRANSACTION",
    "COMMIT",
    "VACUUM",
    "PIVOT sessions ON model USING count(*)",
    "EXPLAIN",
    "\ud800",
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_attacks_are_refused_and_leave_nothing(engine: Engine, folder: Path, sql: str) -> None:
    with pytest.raises(QueryError) as caught:
        engine.query_user(sql.replace("{folder}", str(folder)))
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert [path.name for path in folder.iterdir()] == ["sessions.parquet"]
    assert engine.query("FROM sessions").height == 1
    assert engine.query("SELECT count(*) > 50 FROM event_types").item()


def test_python_variables_are_no_tables(engine: Engine) -> None:
    secret = pa.table({"key": ["value"]})
    with pytest.raises(QueryError, match="secret does not exist"):
        engine.query_user("FROM secret")
    assert secret.num_rows == 1


def test_even_trusted_queries_open_no_other_files(engine: Engine) -> None:
    with pytest.raises(QueryError, match="file system operations are disabled"):
        engine.query("FROM read_text('/etc/passwd')")


def test_waiting_is_stopped_like_work(engine: Engine) -> None:
    with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
        engine.query_user("SELECT sleep_ms(100000)", timeout_seconds=0.2)


def test_rows_are_limited(engine: Engine) -> None:
    assert engine.query_user("FROM range(1000000)", max_rows=10).height == 10


def test_a_query_that_takes_too_long_is_stopped(engine: Engine) -> None:
    with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
        engine.query_user("SELECT count(*) FROM range(100000000) a, range(100000) b", timeout_seconds=0.2)
    assert engine.query_user("SELECT 1").item() == 1


def test_a_query_that_takes_too_much_memory_fails_alone(engine: Engine) -> None:
    with pytest.raises(QueryError, match="more memory than queries may take"):
        engine.query_user("SELECT list(range) FROM range(300000000)", timeout_seconds=60)
    assert engine.query_user("SELECT 1").item() == 1
