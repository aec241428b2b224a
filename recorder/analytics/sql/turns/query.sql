WITH spoken AS (
  SELECT item_facts.session_id, item_facts.item_id, speech.*
  FROM item_facts
  JOIN (SELECT * RENAME (session_id AS speech_session, item_id AS speech_item) FROM speech) AS speech
    ON speech.speech_session = item_facts.session_id AND speech.stop_position = item_facts.commit_cause_position
),
-- What the input buffer held at a commit of the client: all that was appended since it was last emptied.
commits_of_clients AS (
  SELECT session_id, item_id, committed_position
  FROM item_facts
  WHERE committed_position IS NOT NULL AND commit_cause_position IS NULL
),
-- Few sessions have any, and the appends are many.
fillings AS (
  SELECT
    *,
    count(*) FILTER (empties) OVER (
      PARTITION BY session_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS filling_no
  FROM (
    SELECT session_id, position, monotonic_ns AS at_ns, audio_ms, false AS empties
    FROM appends
    WHERE audio_ms > 0
    UNION ALL
    SELECT session_id, position, NULL, NULL, true
    FROM wire_events
    WHERE direction = 'server' AND type IN ('input_audio_buffer.committed', 'input_audio_buffer.cleared')
  ) AS fed
  SEMI JOIN commits_of_clients USING (session_id)
),
buffers AS (
  SELECT
    session_id, max(position) FILTER (empties) AS emptied_position,
    min(at_ns) AS at_ns, sum(audio_ms) AS audio_ms
  FROM fillings
  GROUP BY session_id, filling_no
),
held AS (
  SELECT commits_of_clients.*, buffers.at_ns, buffers.audio_ms
  FROM commits_of_clients
  JOIN buffers
    ON buffers.session_id = commits_of_clients.session_id
    AND buffers.emptied_position = commits_of_clients.committed_position
),
users AS (
  SELECT
    session_id, item_id, 'user' AS speaker, item_facts.response_id,
    coalesce(spoken.voice_start_at_ns, spoken.started_at_ns, held.at_ns, item_facts.first_at_ns) AS started_at_ns,
    coalesce(spoken.voice_end_at_ns, spoken.stopped_at_ns, item_facts.committed_at_ns, item_facts.first_at_ns)
      AS ended_at_ns,
    least(spoken.start_position, spoken.stop_position, item_facts.first_position) AS position,
    item_facts.last_position,
    CASE WHEN item_facts.has_input_audio THEN 'audio' ELSE 'text' END AS modality,
    item_facts.text,
    coalesce(spoken.audio_end_ms - spoken.audio_start_ms, held.audio_ms) AS audio_ms,
    NULL AS heard_ms,
    false AS interrupted
  FROM item_facts
  LEFT JOIN spoken USING (session_id, item_id)
  LEFT JOIN held USING (session_id, item_id)
  WHERE item_facts.role = 'user' AND item_facts.type = 'message'
),
played AS (
  SELECT session_id, item_id, min(at_ns) AS first_at_ns, max(play_end_ns) AS end_ns
  FROM output_audio
  GROUP BY session_id, item_id
),
stops AS (
  SELECT session_id, item_id, min(at_ns) AS at_ns, true AS interrupted
  FROM interruptions
  GROUP BY session_id, item_id
),
assistants AS (
  SELECT
    session_id, item_id, 'assistant' AS speaker, item_facts.response_id,
    coalesce(played.first_at_ns, item_facts.first_delta_at_ns, item_facts.first_at_ns) AS started_at_ns,
    -- The model's end of playing, unless playing was cut or the session ended before.
    coalesce(
      played.first_at_ns + CAST(items.heard_ms * 1e6 AS BIGINT) + (played.end_ns - played.first_at_ns
        - CAST(items.generated_ms * 1e6 AS BIGINT)),
      item_facts.last_delta_at_ns, item_facts.first_at_ns
    ) AS ended_at_ns,
    item_facts.first_position AS position,
    greatest(item_facts.last_position, items.truncated_position) AS last_position,
    CASE WHEN item_facts.is_spoken OR items.heard_estimated IS NOT NULL THEN 'audio' ELSE 'text' END AS modality,
    item_facts.text,
    items.generated_ms AS audio_ms,
    items.heard_ms,
    coalesce(stops.interrupted, false) AS interrupted
  FROM item_facts
  JOIN (SELECT * EXCLUDE (item_id) FROM items) AS items USING (session_id, created_position)
  LEFT JOIN played USING (session_id, item_id)
  LEFT JOIN stops USING (session_id, item_id)
  WHERE item_facts.role = 'assistant' AND item_facts.type = 'message' AND NOT items.out_of_band
    AND (item_facts.text IS NOT NULL OR items.heard_estimated IS NOT NULL)
)
SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY position, item_id) AS turn_no,
  speaker, item_id, response_id, started_at_ns, ended_at_ns, position, last_position, modality, text, audio_ms,
  heard_ms, interrupted
FROM (FROM users UNION ALL BY NAME FROM assistants)
