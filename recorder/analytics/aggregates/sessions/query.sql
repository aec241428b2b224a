SELECT
  $select
  count(*) AS n,
  count(CASE WHEN chosen.status = 'running' THEN 1 END) AS running,
  count(CASE WHEN chosen.status = 'refused' THEN 1 END) AS refused,
  count(CASE WHEN chosen.status = 'lost' THEN 1 END) AS lost,
  sum(sessions.duration_seconds) / 60 AS minutes,
  count(sessions.duration_seconds) AS duration_n,
  $p50(sessions.duration_seconds) AS duration_p50_seconds,
  $p95(sessions.duration_seconds) AS duration_p95_seconds,
  count(sessions.handshake_seconds) AS handshake_n,
  $p95(sessions.handshake_seconds) AS handshake_p95_seconds,
  CAST(sum(sessions.turn_count) AS BIGINT) AS turns,
  avg(sessions.talk_ratio) AS mean_talk_ratio,
  sum(sessions.audio_in_seconds) / 60 AS audio_in_minutes,
  sum(sessions.audio_out_seconds) / 60 AS audio_out_minutes,
  sum(sessions.heard_seconds) / 60 AS heard_minutes
FROM chosen
JOIN stored.sessions AS sessions ON sessions.session_id = chosen.session_id
$group
