WITH samples AS (
  SELECT session_id, model, trigger, 'voice_to_voice' AS metric, voice_to_voice_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND voice_to_voice_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'first_audio' AS metric, time_to_first_audio_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND time_to_first_audio_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'first_token' AS metric, time_to_first_token_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND time_to_first_token_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'queue' AS metric, queue_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND queue_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'model_first_audio' AS metric, model_first_audio_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND model_first_audio_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'endpointing' AS metric, endpointing_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND endpointing_seconds IS NOT NULL
  UNION ALL
  SELECT session_id, model, trigger, 'response' AS metric, duration_seconds AS seconds
  FROM stored.responses
  WHERE NOT out_of_band AND duration_seconds IS NOT NULL
)
SELECT
  $select
  count(samples.seconds) AS n,
  $p50(samples.seconds) AS p50_seconds,
  $p95(samples.seconds) AS p95_seconds,
  $p99(samples.seconds) AS p99_seconds,
  max(samples.seconds) AS worst_seconds
FROM samples
JOIN chosen ON chosen.session_id = samples.session_id
$group
