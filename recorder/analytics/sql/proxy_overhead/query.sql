-- The histograms stand in the session's last event. In an imported one anything could: what is no number gives no row.
WITH told AS (
  SELECT session_id, max(position) AS position, arg_max(body, position) -> '$.added_latency' AS told
  FROM wire_events
  WHERE direction = 'recorder' AND type = 'recorder.session_closed'
  GROUP BY session_id
),
histograms AS (
  SELECT
    told.session_id, told.position, sides.direction,
    TRY_CAST(told.told ->> '$.every' AS BIGINT) AS every_chunks,
    TRY_CAST(side ->> '$.sum_ns' AS BIGINT) AS sum_ns,
    TRY_CAST(side ->> '$.max_ns' AS BIGINT) AS max_ns,
    TRY_CAST(side -> '$.upper_ns' AS BIGINT[]) AS upper_ns,
    TRY_CAST(side -> '$.counts' AS BIGINT[]) AS counts
  FROM told
  CROSS JOIN (VALUES ('client'), ('server')) AS sides (direction)
  CROSS JOIN LATERAL (SELECT told.told -> ('$.' || sides.direction) AS side) AS chosen
),
buckets AS (
  SELECT * EXCLUDE (upper_ns, counts), least(unnest(upper_ns), max_ns) AS ns, unnest(counts) AS n
  FROM histograms
  WHERE len(upper_ns) = len(counts)
),
ranked AS (
  SELECT
    *,
    sum(n) OVER (PARTITION BY session_id, direction) AS total,
    sum(n) OVER (PARTITION BY session_id, direction ORDER BY ns) AS up_to
  FROM buckets
  WHERE n > 0
)
-- A percentile is the smallest value that so large a share of all does not exceed.
SELECT
  session_id,
  direction,
  total AS n,
  every_chunks,
  sum_ns / CAST(total AS DOUBLE) / 1e9 AS mean_seconds,
  min(ns) FILTER (up_to >= 0.5 * total) / 1e9 AS p50_seconds,
  CASE WHEN total >= 20 THEN min(ns) FILTER (up_to >= 0.95 * total) / 1e9 END AS p95_seconds,
  CASE WHEN total >= 100 THEN min(ns) FILTER (up_to >= 0.99 * total) / 1e9 END AS p99_seconds,
  max_ns / 1e9 AS max_seconds,
  position
FROM ranked
GROUP BY session_id, position, direction, every_chunks, sum_ns, max_ns, total
