SELECT
  $select
  count(*) AS n,
  count(CASE WHEN calls.unanswered THEN 1 END) AS unanswered,
  count(CASE WHEN calls.arguments_valid = false THEN 1 END) AS invalid_arguments,
  count(calls.arguments_seconds) AS arguments_n,
  $p50(calls.arguments_seconds) AS arguments_p50_seconds,
  count(calls.execution_seconds) AS execution_n,
  $p50(calls.execution_seconds) AS execution_p50_seconds,
  $p95(calls.execution_seconds) AS execution_p95_seconds,
  $p99(calls.execution_seconds) AS execution_p99_seconds,
  count(calls.resume_seconds) AS resume_n,
  $p50(calls.resume_seconds) AS resume_p50_seconds,
  $p95(calls.resume_seconds) AS resume_p95_seconds,
  avg(calls.output_bytes) AS mean_output_bytes
FROM stored.tool_calls AS calls
JOIN chosen ON chosen.session_id = calls.session_id
$group
