WITH told AS (
  SELECT
    session_id,
    arg_min(body, position) FILTER (type = 'recorder.session_opened') AS opened,
    arg_min(body, position) FILTER (type = 'recorder.handshake_completed') AS accepted,
    arg_max(body, position) FILTER (type = 'recorder.session_closed') AS closed,
    count(*) FILTER (type = 'recorder.gap' AND body ->> '$.direction' = 'recorder') > 0 AS stopped
  FROM wire_events
  WHERE direction = 'recorder'
  GROUP BY session_id
),
facts AS (
  SELECT
    session_id,
    min(at_ns) FILTER (type = 'session.created' AND direction = 'server') AS session_created_at_ns,
    sum(audio_ms) FILTER (
      direction = 'server' AND type IN ('response.output_audio.delta', 'session.output_audio.delta')) AS audio_out_ms,
    count(*) FILTER (
      direction = 'server' AND type IN ('response.output_audio.delta', 'session.output_audio.delta')) AS audio_delta_count,
    count(*) FILTER (direction = 'server' AND type = 'error') AS error_count,
    count(*) FILTER (is_unknown) AS unknown_event_count
  FROM (
    SELECT session_id, direction, type, at_ns, audio_ms, is_unknown FROM wire_events
    UNION ALL BY NAME
    SELECT deltas.session_id, 'server' AS direction, event_types.canonical AS type, deltas.audio_ms, false AS is_unknown
    FROM deltas
    JOIN event_types ON event_types.name = deltas.type
  ) AS told
  GROUP BY session_id
),
configs AS (
  SELECT
    session_id,
    arg_max(server_session_id, position) AS server_session_id,
    arg_max(model, position) AS model,
    arg_max(voice, position) AS voice
  FROM session_configs
  GROUP BY session_id
),
answers AS (
  SELECT
    session_id,
    count(*) FILTER (NOT out_of_band) AS response_count,
    count(*) FILTER (out_of_band) AS out_of_band_response_count,
    median(time_to_first_audio_seconds) FILTER (NOT out_of_band) AS time_to_first_audio_p50_seconds,
    count(time_to_first_audio_seconds) FILTER (NOT out_of_band) AS time_to_first_audio_n,
    median(voice_to_voice_seconds) FILTER (NOT out_of_band) AS voice_to_voice_p50_seconds,
    count(voice_to_voice_seconds) FILTER (NOT out_of_band) AS voice_to_voice_n
  FROM responses
  GROUP BY session_id
),
billed AS (
  SELECT
    session_id,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(total_tokens) AS total_tokens,
    sum(cached_tokens) AS cached_tokens
  FROM usage
  GROUP BY session_id
),
turn_counts AS (
  SELECT session_id, count(*) AS n FROM turns GROUP BY session_id
),
interruption_counts AS (
  SELECT session_id, count(*) AS n FROM interruptions WHERE out_of_band IS NOT TRUE GROUP BY session_id
),
tool_call_counts AS (
  SELECT session_id, count(*) AS n FROM tool_calls GROUP BY session_id
),
-- A sum with an unknown part is unknown.
heard AS (
  SELECT session_id, CASE WHEN bool_and(heard_ms IS NOT NULL) THEN sum(heard_ms) END AS heard_ms, true AS has_audio
  FROM items
  WHERE heard_estimated IS NOT NULL
  GROUP BY session_id
),
voices AS (
  SELECT session_id, sum(voice_end_ms - voice_start_ms) AS voice_ms FROM speech GROUP BY session_id
),
joined AS (
  SELECT
    *,
    [json_extract_string(header, '$[1]') FOR header IN json_extract(told.opened, '$.request.headers[*]')
      IF lower(json_extract_string(header, '$[0]')) = 'user-agent'][1] AS user_agent,
    TRY_CAST(told.closed ->> '$.status' AS INTEGER) AS refusal_status,
    CASE
      WHEN told.opened ->> '$.source' IS DISTINCT FROM 'proxy' THEN NULL
      WHEN told.stopped THEN 'stopped'
      ELSE coalesce(told.opened ->> '$.recording.mode', 'on')
    END AS recording,
    told.closed -> '$.left_out' AS left_out,
    CASE WHEN heard.has_audio THEN heard.heard_ms ELSE 0 END / 1e3 AS heard_seconds,
    coalesce(session_spans.accepted_at_ns, session_spans.first_at_ns) AS begin_at_ns
  FROM facts
  JOIN session_spans USING (session_id)
  LEFT JOIN told USING (session_id)
  LEFT JOIN configs USING (session_id)
  LEFT JOIN answers USING (session_id)
  LEFT JOIN billed USING (session_id)
  LEFT JOIN heard USING (session_id)
  LEFT JOIN voices USING (session_id)
)
SELECT
  session_id,
  joined.server_session_id,
  joined.session_opened_at AS opened_at,
  joined.date,
  joined.opened ->> '$.source' AS source,
  joined.model,
  joined.voice,
  joined.user_agent,
  joined.opened ->> '$.upstream' AS upstream,
  coalesce(CAST(joined.opened -> '$.labels' AS VARCHAR), '{}') AS labels,
  CASE
    WHEN NOT joined.ended THEN 'running'
    WHEN joined.accepted IS NULL AND joined.refusal_status IS NOT NULL THEN 'refused'
    WHEN joined.closed ->> '$.closed_by' = 'lost' THEN 'lost'
    ELSE 'closed'
  END AS status,
  joined.closed ->> '$.closed_by' AS closed_by,
  TRY_CAST(joined.closed ->> '$.close_code' AS INTEGER) AS close_code,
  joined.closed ->> '$.close_reason' AS close_reason,
  joined.refusal_status,
  joined.recording,
  CAST(joined.opened -> '$.recording.policy' AS VARCHAR) AS content_policy,
  -- A worker that died could not say what it had left out.
  CASE WHEN joined.ended AND (joined.left_out IS NOT NULL OR joined.recording IN ('on', 'no-audio') IS NOT FALSE)
    THEN coalesce(TRY_CAST(joined.left_out ->> '$.client_bytes' AS BIGINT), 0)
      + coalesce(TRY_CAST(joined.left_out ->> '$.server_bytes' AS BIGINT), 0)
  END AS left_out_bytes,
  TRY_CAST(coalesce(joined.accepted ->> '$.connect_seconds', joined.closed ->> '$.connect_seconds') AS DOUBLE)
    AS connect_seconds,
  TRY_CAST(coalesce(joined.accepted ->> '$.handshake_seconds', joined.closed ->> '$.handshake_seconds') AS DOUBLE)
    AS handshake_seconds,
  (joined.session_created_at_ns - joined.accepted_at_ns) / 1e9 AS session_created_seconds,
  (joined.end_at_ns - joined.begin_at_ns) / 1e9 AS duration_seconds,
  joined.event_count,
  joined.client_event_count,
  joined.server_event_count,
  CASE WHEN joined.append_count = 0 OR joined.audio_in_ms IS NOT NULL
    THEN coalesce(joined.audio_in_ms, 0) / 1e3 END AS audio_in_seconds,
  CASE WHEN joined.audio_delta_count = 0 OR joined.audio_out_ms IS NOT NULL
    THEN coalesce(joined.audio_out_ms, 0) / 1e3 END AS audio_out_seconds,
  joined.heard_seconds,
  (joined.voice_ms / 1e3) / nullif(joined.voice_ms / 1e3 + joined.heard_seconds, 0) AS talk_ratio,
  coalesce(joined.response_count, 0) AS response_count,
  coalesce(joined.out_of_band_response_count, 0) AS out_of_band_response_count,
  coalesce(turn_counts.n, 0) AS turn_count,
  coalesce(interruption_counts.n, 0) AS interruption_count,
  coalesce(tool_call_counts.n, 0) AS tool_call_count,
  joined.error_count,
  joined.unknown_event_count,
  joined.input_tokens,
  joined.output_tokens,
  joined.total_tokens,
  joined.cached_tokens,
  joined.time_to_first_audio_p50_seconds,
  coalesce(joined.time_to_first_audio_n, 0) AS time_to_first_audio_n,
  joined.voice_to_voice_p50_seconds,
  coalesce(joined.voice_to_voice_n, 0) AS voice_to_voice_n
FROM joined
LEFT JOIN turn_counts USING (session_id)
LEFT JOIN interruption_counts USING (session_id)
LEFT JOIN tool_call_counts USING (session_id)
