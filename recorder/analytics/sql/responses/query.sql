WITH moments AS (
  SELECT
    session_id, response_no,
    any_value(response_id) AS response_id,
    min(position) AS start_position,
    min(position) FILTER (type = 'response.created') AS created_position,
    min(at_ns) FILTER (type = 'response.created') AS created_at_ns,
    min(position) FILTER (is_token) AS first_token_position,
    min(at_ns) FILTER (is_token) AS first_token_at_ns,
    min(position) FILTER (type = 'response.output_audio.delta') AS first_audio_position,
    min(at_ns) FILTER (type = 'response.output_audio.delta') AS first_audio_at_ns,
    max(position) FILTER (type = 'response.output_audio.delta') AS last_audio_position,
    max(at_ns) FILTER (type = 'response.output_audio.delta') AS last_audio_at_ns,
    count(*) FILTER (type = 'response.output_audio.delta') AS audio_delta_count,
    sum(audio_ms) FILTER (type = 'response.output_audio.delta') AS audio_ms,
    min(position) FILTER (type = 'response.done') AS done_position,
    min(at_ns) FILTER (type = 'response.done') AS done_at_ns
  FROM response_events
  WHERE type LIKE 'response.%'
  GROUP BY session_id, response_no
),
endings AS (
  SELECT
    response_events.session_id, response_events.response_no, response_events.position,
    wire_events.body -> '$.response.status_details' AS details,
    wire_events.body ->> '$.response.status' AS status,
    wire_events.body ->> '$.response.model' AS model,
    nullif(array_to_string(coalesce(
      nullif(wire_events.body ->> '$.response.output[*].content[*].transcript', []),
      wire_events.body ->> '$.response.output[*].content[*].text'
    ), chr(10)), '') AS output_text
  FROM response_events
  JOIN wire_events
    ON wire_events.session_id = response_events.session_id AND wire_events.position = response_events.position
  WHERE response_events.type = 'response.done' AND wire_events.type = 'response.done'
),
ended AS (
  SELECT
    session_id, response_no,
    arg_min(status, position) AS status,
    arg_min(model, position) AS model,
    arg_min_null(CASE WHEN json_type(details) = 'VARCHAR' THEN CASE WHEN status <> 'completed' THEN details ->> '$' END
      ELSE coalesce(
        details ->> '$.reason', details ->> '$.error.code', details ->> '$.error.type', details ->> '$.error.message')
    END, position) AS status_reason,
    arg_min(output_text, position) AS output_text
  FROM endings
  GROUP BY session_id, response_no
),
stalls AS (
  SELECT
    output_audio.session_id, output_audio.response_no,
    -- Under a millisecond nobody hears it, and audio lengths are no whole nanoseconds.
    count(*) FILTER (output_audio.empty_ns >= 1e6) AS stall_count,
    sum(CASE WHEN output_audio.empty_ns >= 1e6 THEN output_audio.empty_ns / 1e6 ELSE 0 END) AS stall_ms
  FROM output_audio
  JOIN moments
    ON moments.session_id = output_audio.session_id AND moments.response_no = output_audio.response_no
  WHERE output_audio.at_ns IS NOT NULL
    AND (moments.done_position IS NULL OR output_audio.position < moments.done_position)
  GROUP BY output_audio.session_id, output_audio.response_no
),
texts AS (
  SELECT session_id, response_no, string_agg(text, chr(10) ORDER BY output_index, first_position) AS transcript
  FROM item_facts
  WHERE response_no IS NOT NULL AND type = 'message'
  GROUP BY session_id, response_no
),
-- A response answers the speech that triggered it, or, where the client itself asks after the VAD's commit, the last
-- speech that no response has answered and no message has followed.
turns_taken AS (
  SELECT
    moments.session_id, moments.response_no, response_triggers.trigger, response_triggers.trigger_position,
    lag(moments.start_position) OVER (
      PARTITION BY moments.session_id, response_triggers.out_of_band ORDER BY moments.start_position
    ) AS previous_start
  FROM moments
  JOIN response_triggers USING (session_id, response_no)
  WHERE NOT response_triggers.out_of_band
),
messages AS (
  SELECT session_id, position
  FROM wire_events
  WHERE direction = 'client' AND type = 'conversation.item.create'
),
spoken AS (
  SELECT speech.* FROM speech
  SEMI JOIN commits ON commits.session_id = speech.session_id AND commits.cause_position = speech.stop_position
),
answered AS (
  SELECT
    turns_taken.*, spoken.stop_position, spoken.stopped_at_ns, spoken.voice_end_at_ns, spoken.voice_end_position
  FROM turns_taken
  ASOF JOIN spoken
    ON spoken.session_id = turns_taken.session_id AND spoken.stop_position <= turns_taken.trigger_position
),
voices AS (
  SELECT answered.*
  FROM answered
  ASOF LEFT JOIN messages
    ON messages.session_id = answered.session_id AND messages.position < answered.trigger_position
  WHERE (answered.trigger = 'vad' AND answered.stop_position = answered.trigger_position)
    OR (answered.trigger = 'client'
      AND coalesce(answered.previous_start, -1) < answered.stop_position
      AND coalesce(messages.position, -1) < answered.stop_position)
),
configured AS (
  SELECT moments.session_id, moments.response_no, session_configs.model
  FROM moments
  ASOF JOIN session_configs
    ON session_configs.session_id = moments.session_id AND session_configs.position < moments.start_position
)
SELECT
  session_id,
  moments.response_id,
  response_no,
  response_triggers.out_of_band,
  coalesce(ended.model, configured.model) AS model,
  response_triggers.trigger,
  response_triggers.trigger_position,
  response_triggers.trigger_at_ns,
  moments.created_position,
  created.recorded_at AS created_at,
  moments.created_at_ns,
  moments.first_token_position,
  moments.first_token_at_ns,
  moments.first_audio_position,
  moments.first_audio_at_ns,
  moments.last_audio_position,
  moments.last_audio_at_ns,
  moments.done_position,
  moments.done_at_ns,
  -- Events out of order give no durations: better none than a negative one.
  CASE WHEN moments.created_at_ns >= response_triggers.trigger_at_ns
    THEN (moments.created_at_ns - response_triggers.trigger_at_ns) / 1e9 END AS queue_seconds,
  CASE WHEN moments.first_token_at_ns >= response_triggers.trigger_at_ns
    THEN (moments.first_token_at_ns - response_triggers.trigger_at_ns) / 1e9 END AS time_to_first_token_seconds,
  CASE WHEN moments.first_audio_at_ns >= response_triggers.trigger_at_ns
    THEN (moments.first_audio_at_ns - response_triggers.trigger_at_ns) / 1e9 END AS time_to_first_audio_seconds,
  CASE WHEN moments.first_audio_at_ns >= moments.created_at_ns
    THEN (moments.first_audio_at_ns - moments.created_at_ns) / 1e9 END AS model_first_audio_seconds,
  voices.voice_end_position,
  voices.voice_end_at_ns,
  CASE WHEN moments.first_audio_at_ns >= voices.voice_end_at_ns
    THEN (moments.first_audio_at_ns - voices.voice_end_at_ns) / 1e9 END AS voice_to_voice_seconds,
  CASE WHEN voices.stopped_at_ns >= voices.voice_end_at_ns
    THEN (voices.stopped_at_ns - voices.voice_end_at_ns) / 1e9 END AS endpointing_seconds,
  CASE WHEN moments.done_at_ns >= moments.created_at_ns
    THEN (moments.done_at_ns - moments.created_at_ns) / 1e9 END AS duration_seconds,
  moments.audio_ms,
  CASE WHEN moments.audio_delta_count > 1
    THEN moments.audio_ms * 1e6 / nullif(moments.last_audio_at_ns - moments.first_audio_at_ns, 0)
  END AS generation_speed,
  stalls.stall_count,
  stalls.stall_ms,
  CASE
    WHEN moments.done_position IS NOT NULL THEN ended.status
    WHEN session_spans.ended THEN 'dangling'
    ELSE 'in_progress'
  END AS status,
  ended.status_reason,
  usage_reports.input_tokens,
  usage_reports.output_tokens,
  usage_reports.total_tokens,
  usage_reports.input_text_tokens,
  usage_reports.input_audio_tokens,
  usage_reports.input_image_tokens,
  usage_reports.cached_tokens,
  usage_reports.cached_text_tokens,
  usage_reports.cached_audio_tokens,
  usage_reports.cached_image_tokens,
  usage_reports.output_text_tokens,
  usage_reports.output_audio_tokens,
  usage_reports.reasoning_tokens,
  usage_reports.cached_tokens / nullif(usage_reports.input_tokens, 0) AS cache_hit_ratio,
  coalesce(texts.transcript, ended.output_text) AS transcript
FROM moments
JOIN response_triggers USING (session_id, response_no)
JOIN session_spans USING (session_id)
LEFT JOIN ended USING (session_id, response_no)
LEFT JOIN usage_reports USING (session_id, response_no)
LEFT JOIN stalls USING (session_id, response_no)
LEFT JOIN texts USING (session_id, response_no)
LEFT JOIN voices USING (session_id, response_no)
LEFT JOIN configured USING (session_id, response_no)
LEFT JOIN wire_events AS created
  ON created.session_id = moments.session_id AND created.position = moments.created_position
