SELECT
  $select
  count(DISTINCT overhead.session_id) AS n,
  CAST(sum(overhead.n) AS BIGINT) AS measured,
  sum(overhead.mean_seconds * overhead.n) / sum(CASE WHEN overhead.mean_seconds IS NOT NULL THEN overhead.n END)
    AS mean_seconds,
  $p50(overhead.p50_seconds) AS p50_seconds,
  count(overhead.p99_seconds) AS p99_n,
  max(overhead.p99_seconds) AS worst_p99_seconds,
  max(overhead.max_seconds) AS worst_seconds
FROM stored.proxy_overhead AS overhead
JOIN chosen ON chosen.session_id = overhead.session_id
$group
