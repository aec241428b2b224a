SELECT
  $select
  count(*) AS n,
  count(CASE WHEN heard.status = 'failed' THEN 1 END) AS failed,
  count(CASE WHEN heard.status = 'failed' THEN 1 END) / CAST(nullif(count(*), 0) AS DOUBLE) AS failure_ratio,
  count(heard.first_delta_seconds) AS first_delta_n,
  $p50(heard.first_delta_seconds) AS first_delta_p50_seconds,
  $p95(heard.first_delta_seconds) AS first_delta_p95_seconds,
  count(heard.transcription_seconds) AS transcription_n,
  $p50(heard.transcription_seconds) AS transcription_p50_seconds,
  $p95(heard.transcription_seconds) AS transcription_p95_seconds,
  $p99(heard.transcription_seconds) AS transcription_p99_seconds,
  avg(heard.mean_logprob) AS mean_logprob
FROM stored.transcriptions AS heard
JOIN chosen ON chosen.session_id = heard.session_id
$group
