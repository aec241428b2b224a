-- The server's response.* and output_audio_buffer.* events, each with the response that it belongs to. Events without
-- a response id belong to the response that started last; a response.created without an id is a response of its own.
-- Nearly all rows have a response and an item: the few that lack one are looked for anew rather than all kept twice.
WITH rows AS NOT MATERIALIZED (
  SELECT
    session_id, position, at_ns, type, response_id, item_id, output_index, content_index, audio_ms,
    CASE
      WHEN type = 'response.output_audio.delta' THEN NULL
      WHEN type LIKE 'response.%.delta' THEN body ->> '$.delta'
      WHEN type IN ('response.output_audio_transcript.done', 'response.output_text.done')
        THEN coalesce(body ->> '$.transcript', body ->> '$.text')
    END AS text,
    -- Of what the model says: text, transcript, audio, arguments. An unknown delta may be anything.
    type LIKE 'response.output_%.delta' OR type LIKE 'response.%arguments.delta' AS is_token
  FROM wire_events
  WHERE direction = 'server' AND (type LIKE 'response.%' OR type LIKE 'output_audio_buffer.%')
  UNION ALL
  SELECT
    deltas.session_id, deltas.position, deltas.monotonic_ns, event_types.canonical, deltas.response_id, deltas.item_id,
    deltas.output_index, deltas.content_index, deltas.audio_ms,
    CASE WHEN event_types.canonical <> 'response.output_audio.delta' THEN TRY_CAST(deltas.payload AS JSON) ->> '$.delta' END,
    true
  FROM deltas
  JOIN event_types ON event_types.name = deltas.type
),
starts AS (
  SELECT session_id, response_id, min(position) AS start_position
  FROM rows
  WHERE response_id IS NOT NULL AND type LIKE 'response.%'
  GROUP BY session_id, response_id
  UNION ALL
  SELECT session_id, NULL, position FROM rows WHERE response_id IS NULL AND type = 'response.created'
),
numbered AS (
  SELECT *, row_number() OVER (PARTITION BY session_id ORDER BY start_position) AS response_no FROM starts
),
attributed AS NOT MATERIALIZED (
  SELECT rows.*, numbered.response_no
  FROM rows
  JOIN numbered ON numbered.session_id = rows.session_id AND numbered.response_id = rows.response_id
  UNION ALL
  SELECT rows.* REPLACE (numbered.response_id AS response_id), numbered.response_no
  FROM (FROM rows WHERE response_id IS NULL) AS rows
  ASOF JOIN numbered ON numbered.session_id = rows.session_id AND numbered.start_position <= rows.position
),
loose AS (
  FROM attributed WHERE item_id IS NULL AND (type LIKE 'response.%.delta' OR type LIKE 'response.output%')
)
-- Content without an item id belongs to the item that the response spoke of last.
SELECT * FROM attributed WHERE item_id IS NOT NULL OR NOT (type LIKE 'response.%.delta' OR type LIKE 'response.output%')
UNION ALL
SELECT loose.* REPLACE (told.item_id AS item_id)
FROM loose
ASOF LEFT JOIN (
  SELECT session_id, response_no, position, item_id
  FROM attributed
  SEMI JOIN loose USING (session_id, response_no)
  WHERE item_id IS NOT NULL
) AS told
  ON told.session_id = loose.session_id AND told.response_no = loose.response_no AND told.position < loose.position
