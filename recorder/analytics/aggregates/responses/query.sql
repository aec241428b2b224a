SELECT
  $select
  count(*) AS n,
  count(CASE WHEN responses.status = 'completed' THEN 1 END) AS completed,
  count(CASE WHEN responses.status = 'cancelled' THEN 1 END) AS cancelled,
  count(CASE WHEN responses.status = 'incomplete' THEN 1 END) AS incomplete,
  count(CASE WHEN responses.status = 'failed' THEN 1 END) AS failed,
  count(CASE WHEN responses.status = 'dangling' THEN 1 END) AS dangling,
  count(CASE WHEN responses.status IN ('failed', 'dangling') THEN 1 END) / CAST(nullif(count(*), 0) AS DOUBLE)
    AS failure_ratio,
  count(CASE WHEN responses.audio_ms > 0 THEN 1 END) AS spoken,
  count(CASE WHEN responses.stall_count > 0 THEN 1 END) AS stalled,
  count(CASE WHEN responses.stall_count > 0 THEN 1 END)
    / CAST(nullif(count(CASE WHEN responses.stall_count IS NOT NULL THEN 1 END), 0) AS DOUBLE) AS stall_ratio,
  sum(responses.stall_ms) / 1000 AS stall_seconds,
  count(responses.generation_speed) AS generation_speed_n,
  $p50(responses.generation_speed) AS generation_speed_p50
FROM stored.responses AS responses
JOIN chosen ON chosen.session_id = responses.session_id
$group
