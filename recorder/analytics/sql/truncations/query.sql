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
done AS (
  SELECT
    session_id, position, at_ns, item_id,
    CASE WHEN isfinite(TRY_CAST(body ->> '$.audio_end_ms' AS DOUBLE))
      THEN TRY_CAST(body ->> '$.audio_end_ms' AS DOUBLE) END AS audio_end_ms
  FROM wire_events
  WHERE direction = 'server' AND type = 'conversation.item.truncated'
),
-- Where several were under way, the one that asked for as much; else the last of the item.
answers AS (
  SELECT done.*, coalesce(same.position, asked.position) AS asked_position
  FROM done
  ASOF LEFT JOIN (FROM asked WHERE NOT rejected) AS same
    ON same.session_id = done.session_id AND same.item_id = done.item_id AND same.audio_end_ms = done.audio_end_ms
    AND same.position < done.position
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
