"""DuckDB and the SQL models that turn events into tables."""
