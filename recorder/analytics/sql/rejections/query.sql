-- Client events that an `error` answered: by error.event_id, or where that is null by what the error says.
WITH errors AS (
  SELECT
    session_id,
    position,
    body ->> '$.error.event_id' AS cause_event_id,
    body ->> '$.error.code' AS code,
    body ->> '$.error.param' AS param,
    body ->> '$.error.message' AS message
  FROM wire_events
  WHERE direction = 'server' AND type = 'error'
),
sent AS (
  SELECT session_id, position, event_id, type FROM wire_events WHERE direction = 'client'
),
exact AS (
  SELECT errors.session_id, errors.position AS error_position, sent.position, sent.type
  FROM errors
  ASOF JOIN sent
    ON sent.session_id = errors.session_id AND sent.event_id = errors.cause_event_id
    AND sent.position < errors.position
),
guessed AS (
  SELECT
    session_id,
    position,
    CASE
      WHEN code = 'conversation_already_has_active_response' OR param LIKE 'response%' THEN 'response.create'
      WHEN code = 'response_cancel_not_active' THEN 'response.cancel'
      WHEN code LIKE 'input_audio_buffer_commit%' THEN 'input_audio_buffer.commit'
      WHEN param = 'audio_end_ms' OR message ILIKE '%truncat%' OR message ILIKE '%already shorter than%'
        THEN 'conversation.item.truncate'
    END AS cause_type
  FROM errors
  ANTI JOIN exact ON exact.session_id = errors.session_id AND exact.error_position = errors.position
),
inferred AS (
  SELECT guessed.session_id, guessed.position AS error_position, sent.position, sent.type
  FROM guessed
  ASOF JOIN sent
    ON sent.session_id = guessed.session_id AND sent.type = guessed.cause_type AND sent.position < guessed.position
)
SELECT session_id, position, any_value(type) AS type, min(error_position) AS error_position
FROM (FROM exact UNION ALL FROM inferred)
GROUP BY session_id, position
