WITH signals AS (
  SELECT
    session_id, position, at_ns, item_id,
    CASE
      WHEN type = 'input_audio_buffer.timeout_triggered' THEN 'idle_timeout'
      WHEN type IN ('input_audio_buffer.dtmf_event_received', 'transport.dtmf.received') THEN 'dtmf_received'
      ELSE 'dtmf_sent'
    END AS kind,
    TRY_CAST(body ->> '$.audio_start_ms' AS DOUBLE) AS audio_start_ms,
    TRY_CAST(body ->> '$.audio_end_ms' AS DOUBLE) AS audio_end_ms,
    coalesce(body ->> '$.event', body ->> '$.digit') AS key,
    TRY_CAST(body ->> '$.received_at' AS DOUBLE) AS received_at
  FROM wire_events
  WHERE (direction = 'server' AND type IN (
      'input_audio_buffer.timeout_triggered', 'input_audio_buffer.dtmf_event_received', 'transport.dtmf.received'))
    OR (direction = 'client' AND type = 'transport.dtmf.send')
)
SELECT
  signals.session_id,
  row_number() OVER (PARTITION BY signals.session_id ORDER BY signals.position) AS signal_no,
  signals.kind,
  signals.position,
  signals.at_ns,
  CASE WHEN signals.kind = 'idle_timeout' THEN signals.item_id END AS item_id,
  CASE WHEN signals.kind = 'idle_timeout' AND signals.audio_start_ms BETWEEN 0 AND 86400000 THEN signals.audio_start_ms END AS audio_start_ms,
  CASE WHEN signals.kind = 'idle_timeout' AND signals.audio_end_ms BETWEEN 0 AND 86400000 THEN signals.audio_end_ms END AS audio_end_ms,
  response_triggers.response_no,
  CASE WHEN signals.kind <> 'idle_timeout' THEN signals.key END AS key,
  CASE WHEN signals.kind = 'dtmf_received' AND signals.received_at BETWEEN 0 AND 4e9
    THEN to_timestamp(signals.received_at) END AS received_at
FROM signals
LEFT JOIN response_triggers
  ON response_triggers.session_id = signals.session_id AND response_triggers.trigger_position = signals.position
