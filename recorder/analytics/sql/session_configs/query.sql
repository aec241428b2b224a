-- The session configuration in force from each session.created / updated on. What an update leaves out stays as it
-- was; an explicit null (turn detection off) counts as said. Before them, the request itself may name the model.
WITH reported AS (
  SELECT
    session_id,
    position,
    body ->> '$.session.id' AS server_session_id,
    body ->> '$.session.type' AS session_type,
    body ->> '$.session.model' AS model,
    coalesce(
      body ->> '$.session.audio.output.voice.id', body ->> '$.session.audio.output.voice',
      body ->> '$.session.voice.id', body ->> '$.session.voice'
    ) AS voice,
    coalesce(
      body ->> '$.session.audio.input.transcription.model', body ->> '$.session.input_audio_transcription.model'
    ) AS transcription_model,
    coalesce(body -> '$.session.audio.input.turn_detection', body -> '$.session.turn_detection') AS turn_detection,
    md5(body ->> '$.session.instructions') AS instructions_md5,
    md5(CAST(body -> '$.session.tools' AS VARCHAR)) AS tools_md5,
    body -> '$.session.truncation' AS truncation
  FROM wire_events
  WHERE direction = 'server'
    AND type IN ('session.created', 'session.updated', 'transcription_session.created', 'transcription_session.updated')
  UNION ALL BY NAME
  SELECT
    session_id,
    position,
    url_decode(nullif(regexp_extract(body ->> '$.request.target', '[?&](?:model|deployment)=([^&#]*)', 1), '')) AS model
  FROM wire_events
  WHERE direction = 'recorder' AND type = 'recorder.session_opened'
),
carried AS (
  SELECT
    session_id,
    position,
    last_value(server_session_id IGNORE NULLS) OVER so_far AS server_session_id,
    last_value(session_type IGNORE NULLS) OVER so_far AS session_type,
    last_value(model IGNORE NULLS) OVER so_far AS model,
    last_value(transcription_model IGNORE NULLS) OVER so_far AS transcription_model,
    last_value(voice IGNORE NULLS) OVER so_far AS voice,
    last_value(turn_detection IGNORE NULLS) OVER so_far AS turn_detection,
    last_value(instructions_md5 IGNORE NULLS) OVER so_far AS instructions_md5,
    last_value(tools_md5 IGNORE NULLS) OVER so_far AS tools_md5,
    last_value(truncation IGNORE NULLS) OVER so_far AS truncation
  FROM reported
  WINDOW so_far AS (PARTITION BY session_id ORDER BY position)
),
described AS (
  SELECT
    *,
    coalesce(turn_detection ->> '$.type', 'server_vad') = 'server_vad' AS is_server_vad
  FROM carried
)
SELECT
  session_id,
  position,
  server_session_id,
  session_type,
  model,
  transcription_model,
  voice,
  instructions_md5,
  tools_md5,
  truncation,
  is_server_vad,
  -- The protocol's defaults. Semantic VAD reports the voice as it is, without margins.
  CASE WHEN is_server_vad
    THEN coalesce(TRY_CAST(turn_detection ->> '$.silence_duration_ms' AS DOUBLE), 500) ELSE 0 END AS silence_ms,
  CASE WHEN is_server_vad
    THEN coalesce(TRY_CAST(turn_detection ->> '$.prefix_padding_ms' AS DOUBLE), 300) ELSE 0 END AS prefix_ms,
  coalesce(TRY_CAST(turn_detection ->> '$.create_response' AS BOOLEAN), true) AS creates_responses,
  coalesce(TRY_CAST(turn_detection ->> '$.interrupt_response' AS BOOLEAN), true) AS interrupts_responses
FROM described
