-- The client message behind each `error`: named by error.event_id; else the last of the kind that the error speaks of
-- (`specific`); else, for an invalid request, the last message that is no audio, if it is under five seconds old.
WITH errors AS (
  SELECT
    session_id, position, at_ns,
    coalesce(body ->> '$.error.event_id', body ->> '$.error.client_event_id', body ->> '$.client_event_id')
      AS cause_event_id,
    body ->> '$.error.type' AS type,
    coalesce(body ->> '$.error.code', body ->> '$.code') AS code,
    coalesce(body ->> '$.error.param', body ->> '$.param') AS param,
    coalesce(body ->> '$.error.message', body ->> '$.message',
      CASE WHEN json_type(body, '$.error') = 'VARCHAR' THEN body ->> '$.error' END) AS message
  FROM wire_events
  WHERE direction = 'server' AND type = 'error'
),
sent AS (
  SELECT session_id, position, at_ns, event_id, type
  FROM wire_events
  WHERE direction = 'client' AND NOT coalesce(type LIKE 'websocket.%', false)
),
-- Audio stands apart, since there is so much of it; few errors speak of it.
audio AS (
  SELECT
    appends.session_id, appends.position, appends.monotonic_ns AS at_ns, nullif(appends.event_id, '') AS event_id,
    appends.type
  FROM appends
  SEMI JOIN (
    FROM errors WHERE cause_event_id IS NOT NULL OR param = 'audio' OR code LIKE '%audio%'
  ) AS erring ON erring.session_id = appends.session_id
),
exact AS (
  SELECT errors.session_id, errors.position AS error_position, named.position, named.type
  FROM errors
  ASOF JOIN (FROM sent UNION ALL FROM audio) AS named
    ON named.session_id = errors.session_id AND named.event_id = errors.cause_event_id
    AND named.position < errors.position
),
guessed AS (
  SELECT
    *,
    CASE
      WHEN code = 'conversation_already_has_active_response' OR param LIKE 'response%' THEN 'response.create'
      WHEN code = 'response_cancel_not_active' THEN 'response.cancel'
      WHEN code LIKE 'input_audio_buffer_commit%' THEN 'input_audio_buffer.commit'
      WHEN param = 'audio_end_ms' OR message ILIKE '%truncat%' OR message ILIKE '%already shorter than%'
        THEN 'conversation.item.truncate'
      WHEN param = 'session' OR param LIKE 'session.%' THEN 'session.update'
      WHEN param = 'item' OR param LIKE 'item.%' OR param = 'previous_item_id' THEN 'conversation.item.create'
      WHEN param = 'audio' THEN 'input_audio_buffer.append'
    END AS cause_type
  FROM errors
  ANTI JOIN exact ON exact.session_id = errors.session_id AND exact.error_position = errors.position
),
-- The server's own attempt to answer a voice can be refused as well. A response.create that had its response before the
-- voice was committed is not what the error speaks of; nor is one that was sent before the commit, where the error comes
-- with the commit: the server takes one thing after the other, and has replied to nothing in between.
busy AS (
  FROM guessed WHERE code = 'conversation_already_has_active_response'
),
said AS (
  SELECT session_id, position, type, item_id
  FROM wire_events
  SEMI JOIN busy ON busy.session_id = wire_events.session_id
  WHERE direction = 'server'
),
committed AS (
  SELECT
    said.session_id, said.position, said.item_id,
    coalesce(session_configs.creates_responses, true) AS is_answered
  FROM said
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = said.session_id AND session_configs.position < said.position
  WHERE said.type = 'input_audio_buffer.committed'
),
voices AS (
  SELECT DISTINCT session_id, item_id
  FROM said
  WHERE type IN ('input_audio_buffer.speech_stopped', 'input_audio_buffer.timeout_triggered')
),
created AS (
  FROM said WHERE type = 'response.created'
),
replies AS (
  SELECT said.*
  FROM said
  ASOF JOIN committed ON committed.session_id = said.session_id AND committed.position < said.position
  WHERE said.item_id IS DISTINCT FROM committed.item_id AND (
    said.type IN ('error', 'response.created', 'session.updated', 'input_audio_buffer.cleared')
    OR (said.type LIKE 'conversation.item.%' AND said.type NOT LIKE '%transcription%')
  )
),
own_attempts AS (
  SELECT
    busy.session_id, busy.position,
    greatest(created.position, CASE
      WHEN committed.is_answered AND voices.item_id IS NOT NULL AND coalesce(replies.position < committed.position, true)
      THEN committed.position END) AS not_before
  FROM busy
  ASOF JOIN committed ON committed.session_id = busy.session_id AND committed.position < busy.position
  LEFT JOIN voices ON voices.session_id = committed.session_id AND voices.item_id = committed.item_id
  ASOF LEFT JOIN created ON created.session_id = committed.session_id AND created.position < committed.position
  ASOF LEFT JOIN replies ON replies.session_id = busy.session_id AND replies.position < busy.position
),
nearest AS (
  SELECT
    guessed.session_id, guessed.position AS error_position, guessed.cause_type AS type, kinds.position,
    kinds.at_ns
  FROM guessed
  LEFT JOIN own_attempts ON own_attempts.session_id = guessed.session_id AND own_attempts.position = guessed.position
  ASOF JOIN (FROM sent UNION ALL FROM audio) AS kinds
    ON kinds.session_id = guessed.session_id AND kinds.type = guessed.cause_type AND kinds.position < guessed.position
  WHERE coalesce(kinds.position > own_attempts.not_before, true)
),
-- The server answers in order, and each message once: where several of a kind were under way, those before the last
-- get the answers before the last, if they are under five seconds older. Truncates are the ones that are sent in a row; those accepted are answered, too.
asked AS (
  SELECT kinds.session_id, kinds.type, kinds.position, kinds.at_ns, row_number() OVER kind AS number
  FROM (FROM sent UNION ALL FROM audio) AS kinds
  SEMI JOIN nearest ON nearest.session_id = kinds.session_id AND nearest.type = kinds.type
  WINDOW kind AS (PARTITION BY kinds.session_id, kinds.type ORDER BY kinds.position)
),
truncates AS (
  SELECT wire_events.session_id, wire_events.position, wire_events.item_id, wire_events.type
  FROM wire_events
  SEMI JOIN asked ON asked.session_id = wire_events.session_id AND asked.type = wire_events.type
  WHERE wire_events.direction = 'client' AND wire_events.type = 'conversation.item.truncate'
),
answers AS (
  SELECT session_id, error_position AS answer_position, type, position, true AS is_error FROM nearest
  UNION ALL
  SELECT done.session_id, done.position, truncates.type, truncates.position, false
  FROM wire_events AS done
  ASOF JOIN truncates
    ON truncates.session_id = done.session_id AND truncates.item_id = done.item_id
    AND truncates.position < done.position
  WHERE done.direction = 'server' AND done.type = 'conversation.item.truncated'
),
counted AS (
  SELECT answers.*, asked.number, row_number() OVER kind AS answer_number
  FROM answers
  JOIN asked
    ON asked.session_id = answers.session_id AND asked.type = answers.type AND asked.position = answers.position
  WINDOW kind AS (PARTITION BY answers.session_id, answers.type ORDER BY answers.answer_position)
),
in_turn AS (
  SELECT
    *,
    answer_number + min(number - answer_number) OVER (
      PARTITION BY session_id, type ORDER BY answer_number ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    ) AS turn
  FROM counted
),
told AS (
  SELECT
    nearest.session_id, nearest.error_position,
    CASE WHEN coalesce(nearest.at_ns - asked.at_ns <= 5e9, true) THEN asked.position ELSE nearest.position END
      AS position,
    nearest.type
  FROM in_turn
  JOIN nearest ON nearest.session_id = in_turn.session_id AND nearest.error_position = in_turn.answer_position
  JOIN asked
    ON asked.session_id = in_turn.session_id AND asked.type = in_turn.type
    AND asked.number = greatest(in_turn.turn, 1)
  WHERE in_turn.is_error
),
likely AS (
  SELECT guessed.session_id, guessed.position AS error_position, sent.position, sent.type
  FROM guessed
  ANTI JOIN told ON told.session_id = guessed.session_id AND told.error_position = guessed.position
  ASOF JOIN sent ON sent.session_id = guessed.session_id AND sent.position < guessed.position
  WHERE guessed.type = 'invalid_request_error' AND guessed.cause_type IS NULL
    AND (guessed.at_ns - sent.at_ns <= 5e9 OR guessed.at_ns IS NULL OR sent.at_ns IS NULL)
),
causes AS (
  SELECT *, 'exact' AS confidence, true AS specific FROM exact
  UNION ALL
  SELECT *, 'inferred', true FROM told
  UNION ALL
  SELECT *, 'inferred', false FROM likely
)
SELECT
  errors.*,
  causes.position AS cause_position,
  causes.type AS cause_type,
  coalesce(causes.confidence, 'none') AS cause_confidence,
  coalesce(causes.specific, false) AS specific
FROM errors
LEFT JOIN causes ON causes.session_id = errors.session_id AND causes.error_position = errors.position
