SELECT
  $select
  count(*) AS n,
  count(CASE WHEN calls.status = 'failed' THEN 1 END) AS failed,
  count(CASE WHEN calls.status = 'failed' THEN 1 END) / CAST(nullif(count(*), 0) AS DOUBLE) AS failure_ratio,
  count(calls.duration_seconds) AS duration_n,
  $p50(calls.duration_seconds) AS duration_p50_seconds,
  $p95(calls.duration_seconds) AS duration_p95_seconds,
  $p99(calls.duration_seconds) AS duration_p99_seconds,
  count(calls.approval_request_id) AS approvals_asked,
  count(CASE WHEN calls.approved = false THEN 1 END) AS approvals_denied,
  count(calls.approval_wait_seconds) AS approval_n,
  $p50(calls.approval_wait_seconds) AS approval_p50_seconds,
  $p95(calls.approval_wait_seconds) AS approval_p95_seconds
FROM stored.mcp_calls AS calls
JOIN chosen ON chosen.session_id = calls.session_id
$group
