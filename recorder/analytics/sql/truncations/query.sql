-- What shortened an item's audio: each conversation.item.truncate with its answer, and each `truncated` nobody asked for.
WITH asked AS (
  SELECT
    wire_events.session_id, wire_events.position, wire_events.at_ns, wire_events.item_id,
    CASE WHEN isfinite(TRY_CAST(wire_events.body ->> '$.audio_end_ms' AS DOUBLE))
      THEN TRY_CAST(wire_events.body ->> '$.audio_end_ms' AS DOUBLE) END AS audio_end_ms,
    rejections.position IS NOT NULL AS rejected
  FROM wire_events
  LEFT JOIN rejections
    ON rejections.session_id = wire_events.session_id AND rejections.position = wire_events.position
  WHERE wire_events.direction = 'client' AND wire_events.type = 'conversation.item.truncate'
),
answers AS (
  SELECT
    done.session_id, done.position, done.at_ns, done.item_id,
    CASE WHEN isfinite(TRY_CAST(done.body ->> '$.audio_end_ms' AS DOUBLE))
      THEN TRY_CAST(done.body ->> '$.audio_end_ms' AS DOUBLE) END AS audio_end_ms,
    asked.position AS asked_position
  FROM (FROM wire_events WHERE direction = 'server' AND type = 'conversation.item.truncated') AS done
  ASOF LEFT JOIN (FROM asked WHERE NOT rejected) AS asked
    ON asked.session_id = done.session_id AND asked.item_id = done.item_id AND asked.position < done.position
),
first_answers AS (
  SELECT session_id, asked_position, min(position) AS position, arg_min(audio_end_ms, position) AS audio_end_ms
  FROM answers
  WHERE asked_position IS NOT NULL
  GROUP BY session_id, asked_position
)
SELECT
  asked.session_id, asked.item_id, asked.position, asked.at_ns, true AS asked, asked.rejected,
  asked.audio_end_ms AS asked_end_ms,
  coalesce(first_answers.audio_end_ms, asked.audio_end_ms) AS audio_end_ms,
  first_answers.position AS answer_position
FROM asked
LEFT JOIN first_answers
  ON first_answers.session_id = asked.session_id AND first_answers.asked_position = asked.position
UNION ALL
SELECT session_id, item_id, position, at_ns, false, false, NULL, audio_end_ms, position
FROM answers
WHERE asked_position IS NULL
