-- Where each session begins and ends, on which day, and whether its stream has ended.
WITH told AS (
  SELECT
    session_id,
    count(*) AS event_count,
    count(*) FILTER (direction = 'client' AND coalesce(opcode, 1) < 8) AS client_event_count,
    count(*) FILTER (direction = 'server' AND coalesce(opcode, 1) < 8) AS server_event_count,
    sum(audio_ms) FILTER (direction = 'client') AS audio_ms,
    count(*) FILTER (direction = 'recorder' AND type = 'recorder.session_closed') > 0 AS ended,
    min(at_ns) FILTER (direction = 'recorder' AND type = 'recorder.handshake_completed') AS accepted_at_ns,
    min(at_ns) FILTER (direction <> 'recorder') AS first_at_ns,
    max(at_ns) AS last_at_ns,
    min(at_ns) FILTER (direction = 'recorder' AND type = 'recorder.session_closed') AS closed_at_ns,
    arg_min(recorded_at, position) FILTER (direction = 'recorder' AND type = 'recorder.session_opened') AS opened_at,
    arg_min(body, position) FILTER (direction = 'recorder' AND type = 'recorder.session_opened') AS opened
  FROM wire_events
  GROUP BY session_id
),
spoken AS (
  SELECT
    session_id, count(*) AS delta_count, min(monotonic_ns) AS first_at_ns, max(monotonic_ns) AS last_at_ns
  FROM deltas
  GROUP BY session_id
),
sent AS (
  SELECT
    session_id,
    sum(append_count) AS append_count,
    sum(audio_ms) AS audio_ms,
    min(first_at_ns) AS first_at_ns,
    max(last_at_ns) AS last_at_ns
  FROM input_audio
  GROUP BY session_id
)
SELECT
  session_id,
  CAST(coalesce(told.event_count, 0) + coalesce(spoken.delta_count, 0) + coalesce(sent.append_count, 0) AS BIGINT)
    AS event_count,
  CAST(coalesce(told.client_event_count, 0) + coalesce(sent.append_count, 0) AS BIGINT) AS client_event_count,
  coalesce(told.server_event_count, 0) + coalesce(spoken.delta_count, 0) AS server_event_count,
  CAST(coalesce(sent.append_count, 0) AS BIGINT) AS append_count,
  CASE WHEN told.audio_ms IS NOT NULL OR sent.audio_ms IS NOT NULL
    THEN coalesce(told.audio_ms, 0) + coalesce(sent.audio_ms, 0) END AS audio_in_ms,
  coalesce(told.ended, false) AS ended,
  told.accepted_at_ns,
  least(told.first_at_ns, spoken.first_at_ns, sent.first_at_ns) AS first_at_ns,
  coalesce(told.closed_at_ns, greatest(told.last_at_ns, spoken.last_at_ns, sent.last_at_ns)) AS end_at_ns,
  coalesce(CAST(told.opened_at AS TIMESTAMPTZ), TRY_CAST(told.opened ->> '$.opened_at' AS TIMESTAMPTZ)) AS session_opened_at,
  CAST(timezone('UTC', session_opened_at) AS DATE) AS date
FROM told
FULL JOIN spoken USING (session_id)
FULL JOIN sent USING (session_id)
