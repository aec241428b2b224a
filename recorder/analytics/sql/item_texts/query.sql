-- The text of each item as streamed: finished parts where there are, else their deltas, in the order of the parts.
WITH pieces AS (
  SELECT session_id, item_id, coalesce(content_index, 0) AS content_index, position, text, type LIKE '%.delta' AS is_delta
  FROM response_events
  WHERE type LIKE 'response.output_audio_transcript.%' OR type LIKE 'response.output_text.%'
  UNION ALL
  SELECT
    session_id, item_id, coalesce(content_index, 0), position,
    CASE WHEN type LIKE '%.delta' THEN body ->> '$.delta' ELSE body ->> '$.transcript' END, type LIKE '%.delta'
  FROM wire_events
  WHERE direction = 'server' AND type IN (
    'conversation.item.input_audio_transcription.delta', 'conversation.item.input_audio_transcription.completed')
),
-- A revision stands for all that was streamed before it.
revisions AS (
  SELECT session_id, item_id, coalesce(content_index, 0) AS content_index, max(position) AS position,
    arg_max(body ->> '$.transcript', position) AS text
  FROM wire_events
  WHERE direction = 'server' AND type = 'conversation.item.input_audio_transcription.updated'
    AND body ->> '$.transcript' IS NOT NULL
  GROUP BY session_id, item_id, coalesce(content_index, 0)
),
revised AS (
  SELECT pieces.*
  FROM pieces
  LEFT JOIN revisions
    ON revisions.session_id = pieces.session_id AND revisions.item_id = pieces.item_id
    AND revisions.content_index = pieces.content_index
  WHERE revisions.position IS NULL OR pieces.position > revisions.position OR NOT pieces.is_delta
  UNION ALL
  SELECT session_id, item_id, content_index, position, text, true FROM revisions
),
parts AS (
  SELECT
    session_id, item_id, content_index,
    arg_max(text, position) FILTER (NOT is_delta) AS finished,
    max(position) AS last_position
  FROM revised
  WHERE item_id IS NOT NULL AND text IS NOT NULL
  GROUP BY session_id, item_id, content_index
),
-- Deltas are put together only where they are needed: they are many.
streams AS (
  SELECT revised.session_id, revised.item_id, revised.content_index,
    string_agg(revised.text, '' ORDER BY revised.position) AS streamed
  FROM revised
  SEMI JOIN (FROM parts WHERE coalesce(finished, '') = '') AS unfinished
    ON unfinished.session_id = revised.session_id AND unfinished.item_id = revised.item_id
    AND unfinished.content_index = revised.content_index
  WHERE revised.is_delta AND revised.text IS NOT NULL
  GROUP BY revised.session_id, revised.item_id, revised.content_index
)
SELECT
  session_id, item_id,
  string_agg(coalesce(nullif(finished, ''), streamed, finished), chr(10) ORDER BY content_index) AS text,
  max(last_position) AS last_position
FROM parts
LEFT JOIN streams USING (session_id, item_id, content_index)
GROUP BY session_id, item_id
