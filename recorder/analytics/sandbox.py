"""What SQL of unknown origin may do: read the views. Judged on DuckDB's own syntax tree, by what is allowed.

The configuration of the connection (no files but the segments', nothing can be set, a read-only transaction) is the
wall behind this door. The door is needed: a COPY in a WITH clause passes as a SELECT and may write wherever files may
be read, and a table function may run SQL that is hidden in a string.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "pragma_version",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)


def objection(tree: Any) -> str | None:
    """Why a query is not allowed, or None if it is.

    Args:
        tree: a statement as DuckDB's `json_serialize_sql` gives it.
    """
    for node in _nodes(tree):
        kind = node.get("type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("_NODE") and kind not in _NODES:
            return f"{kind.split('_')[0]} is not allowed here: queries only read"
        if kind == "TABLE_FUNCTION" and (name := _function(node)) not in _TABLE_FUNCTIONS:
            return f"the table function {name} is not allowed here: queries read the views only"
        if kind == "BASE_TABLE" and "/" in str(node.get("table_name")):
            return "files are not allowed here: queries read the views only"
    return None


def relations(tree: Any) -> set[str]:
    """Names of relations that a query reads, in lower case; those that it defines itself may be among them."""
    tables = (node for node in _nodes(tree) if node.get("type") == "BASE_TABLE")
    return {str(node.get("table_name")).lower() for node in tables}


def _function(node: dict[str, Any]) -> str:
    function = node.get("function")
    return str(function.get("function_name")).lower() if isinstance(function, dict) else ""


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON value, without recursion: trees of hostile queries are deep."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
