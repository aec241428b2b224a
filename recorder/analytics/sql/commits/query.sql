-- Each commit of the input audio buffer and who caused it: the VAD (a speech_stopped before it), an idle timeout, or
-- the client. Matched by item id; where ids are missing, by what came just before.
WITH boundaries AS (
  SELECT
    wire_events.session_id, wire_events.position, wire_events.at_ns, wire_events.type, wire_events.item_id,
    lag(wire_events.type) OVER in_order AS before_type,
    lag(wire_events.position) OVER in_order AS before_position,
    lag(wire_events.item_id) OVER in_order AS before_item_id,
    count(*) FILTER (wire_events.type = 'input_audio_buffer.commit') OVER in_order AS commits_so_far
  FROM wire_events
  ANTI JOIN rejections
    ON rejections.session_id = wire_events.session_id AND rejections.position = wire_events.position
  WHERE (wire_events.direction = 'client' AND wire_events.type = 'input_audio_buffer.commit')
    OR (wire_events.direction = 'server' AND wire_events.type IN (
      'input_audio_buffer.committed', 'input_audio_buffer.speech_stopped', 'input_audio_buffer.timeout_triggered'))
  WINDOW in_order AS (PARTITION BY wire_events.session_id ORDER BY wire_events.position)
),
causes AS (
  SELECT session_id, item_id, position, type
  FROM boundaries
  WHERE item_id IS NOT NULL
    AND type IN ('input_audio_buffer.speech_stopped', 'input_audio_buffer.timeout_triggered')
),
matched AS (
  SELECT
    committed.session_id, committed.position, committed.at_ns, committed.item_id, committed.commits_so_far,
    coalesce(
      causes.type,
      CASE WHEN committed.item_id IS NULL OR committed.before_item_id IS NULL THEN committed.before_type END
    ) AS cause_type,
    coalesce(causes.position, committed.before_position) AS cause_position
  FROM (FROM boundaries WHERE type = 'input_audio_buffer.committed') AS committed
  ASOF LEFT JOIN causes
    ON causes.session_id = committed.session_id AND causes.item_id = committed.item_id
    AND causes.position < committed.position
),
ranked AS (
  SELECT
    *,
    CASE cause_type
      WHEN 'input_audio_buffer.speech_stopped' THEN 'vad'
      WHEN 'input_audio_buffer.timeout_triggered' THEN 'idle_timeout'
    END AS server_cause,
    count(*) FILTER (cause_type IS NULL OR cause_type NOT IN (
      'input_audio_buffer.speech_stopped', 'input_audio_buffer.timeout_triggered'
    )) OVER (PARTITION BY session_id ORDER BY position) AS uncaused_so_far
  FROM matched
)
SELECT
  ranked.session_id,
  ranked.position,
  ranked.at_ns,
  ranked.item_id,
  coalesce(
    ranked.server_cause, CASE WHEN ranked.uncaused_so_far <= ranked.commits_so_far THEN 'client' ELSE 'vad' END
  ) AS cause,
  CASE WHEN ranked.server_cause IS NOT NULL THEN ranked.cause_position END AS cause_position
FROM ranked
