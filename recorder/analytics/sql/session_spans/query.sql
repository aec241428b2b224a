-- Where each session begins and ends, on which day, and whether its stream has ended.
-- (Payloads are read of few events: of all they would take longer than the rest together.)
WITH openings AS (
  SELECT
    session_id,
    coalesce(
      CAST(arg_min(recorded_at, position) AS TIMESTAMPTZ),
      TRY_CAST(TRY_CAST(arg_min(payload, position) AS JSON) ->> '$.opened_at' AS TIMESTAMPTZ)
    ) AS session_opened_at
  FROM events
  WHERE direction = 'recorder' AND type = 'recorder.session_opened'
  GROUP BY session_id
),
spans AS (
  SELECT
    session_id,
    count(*) AS event_count,
    count(*) FILTER (direction = 'client' AND coalesce(opcode, 1) < 8) AS client_event_count,
    count(*) FILTER (direction = 'server' AND coalesce(opcode, 1) < 8) AS server_event_count,
    count(*) FILTER (direction = 'client' AND audio_ms > 0) AS audio_append_count,
    sum(audio_ms) FILTER (direction = 'client') AS audio_in_ms,
    count(*) FILTER (
      direction = 'client' AND type IN ('input_audio_buffer.append', 'session.input_audio_buffer.append')) AS append_count,
    count(*) FILTER (direction = 'recorder' AND type = 'recorder.session_closed') > 0 AS ended,
    min(monotonic_ns) FILTER (direction = 'recorder' AND type = 'recorder.handshake_completed') AS accepted_at_ns,
    min(monotonic_ns) FILTER (direction <> 'recorder') AS first_at_ns,
    coalesce(
      min(monotonic_ns) FILTER (direction = 'recorder' AND type = 'recorder.session_closed'), max(monotonic_ns)
    ) AS end_at_ns
  FROM events
  GROUP BY session_id
)
SELECT spans.*, openings.session_opened_at, CAST(timezone('UTC', openings.session_opened_at) AS DATE) AS date
FROM spans
LEFT JOIN openings ON openings.session_id = spans.session_id
