WITH told AS (
  SELECT session_id, position, at_ns, type, item_id, content_index, body
  FROM wire_events
  WHERE direction = 'server' AND type LIKE 'conversation.item.input\_audio\_transcription.%' ESCAPE '\'
),
committed AS (
  SELECT session_id, item_id, min(position) AS position, min(at_ns) AS at_ns
  FROM commits
  WHERE item_id IS NOT NULL
  GROUP BY session_id, item_id
),
-- What names no item is of the one that was committed last.
attributed AS (
  SELECT
    told.* REPLACE (coalesce(told.item_id, last_committed.item_id) AS item_id, coalesce(told.content_index, 0) AS content_index),
    replace(told.type, 'conversation.item.input_audio_transcription.', '') AS step
  FROM told
  ASOF LEFT JOIN committed AS last_committed
    ON last_committed.session_id = told.session_id AND last_committed.position < told.position
),
merged AS (
  SELECT
    session_id, item_id, content_index,
    min(position) AS position,
    min(at_ns) AS first_at_ns,
    min(position) FILTER (step = 'delta') AS first_delta_position,
    min(at_ns) FILTER (step = 'delta') AS first_delta_at_ns,
    count(*) FILTER (step = 'delta') AS delta_count,
    string_agg(body ->> '$.delta', '' ORDER BY position) FILTER (step = 'delta') AS streamed,
    arg_max(body ->> '$.transcript', position) FILTER (step = 'updated') AS revised,
    arg_max(body ->> '$.transcript', position) FILTER (step = 'completed') AS finished,
    arg_max(step, position) FILTER (step IN ('completed', 'failed')) AS ending,
    min(position) FILTER (step = 'completed') AS completed_position,
    min(at_ns) FILTER (step = 'completed') AS completed_at_ns,
    min(position) FILTER (step = 'failed') AS failed_position,
    min(at_ns) FILTER (step = 'failed') AS failed_at_ns,
    arg_max(body -> '$.error', position) FILTER (step = 'failed') AS error,
    flatten(list(TRY_CAST(body ->> '$.logprobs[*].logprob' AS DOUBLE[])) FILTER (step = 'delta')) AS delta_logprobs,
    arg_max(TRY_CAST(body ->> '$.logprobs[*].logprob' AS DOUBLE[]), position) FILTER (
      step = 'completed' AND json_type(body, '$.logprobs') = 'ARRAY') AS logprobs,
    count(*) FILTER (step = 'segment') AS segment_count,
    count(DISTINCT body ->> '$.speaker') FILTER (step = 'segment') AS speaker_count,
    list({
      'speaker': body ->> '$.speaker', 'start_seconds': TRY_CAST(body ->> '$.start' AS DOUBLE),
      'end_seconds': TRY_CAST(body ->> '$.end' AS DOUBLE), 'text': body ->> '$.text', 'position': position
    } ORDER BY position) FILTER (step = 'segment') AS segments
  FROM attributed
  GROUP BY session_id, item_id, content_index
),
timed AS (
  SELECT
    merged.*,
    CASE merged.ending WHEN 'completed' THEN completed_position WHEN 'failed' THEN failed_position END AS end_position,
    CASE merged.ending WHEN 'completed' THEN completed_at_ns WHEN 'failed' THEN failed_at_ns END AS end_at_ns,
    committed.position AS committed_position,
    committed.at_ns AS committed_at_ns,
    coalesce(committed.position, merged.position) AS asked_position
  FROM merged
  LEFT JOIN committed ON committed.session_id = merged.session_id AND committed.item_id = merged.item_id
),
configured AS (
  SELECT timed.*, session_configs.transcription_model AS model
  FROM timed
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = timed.session_id AND session_configs.position < timed.asked_position
),
used AS (
  SELECT session_id, item_id, coalesce(content_index, 0) AS content_index, input_tokens, output_tokens, audio_seconds
  FROM usage_reports
  WHERE kind = 'transcription' AND item_id IS NOT NULL
)
SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY configured.position) AS transcription_no,
  item_id,
  content_index,
  configured.model,
  CASE
    WHEN configured.ending IS NOT NULL THEN configured.ending
    WHEN session_spans.ended THEN 'dangling'
    ELSE 'in_progress'
  END AS status,
  coalesce(nullif(configured.finished, ''), configured.revised, configured.streamed, configured.finished) AS transcript,
  configured.committed_position,
  configured.committed_at_ns,
  configured.position,
  configured.first_delta_position,
  configured.first_delta_at_ns,
  configured.end_position,
  configured.end_at_ns,
  -- Deltas may run ahead of the commit: better no time than a negative one.
  CASE WHEN configured.first_delta_at_ns >= configured.committed_at_ns
    THEN (configured.first_delta_at_ns - configured.committed_at_ns) / 1e9 END AS first_delta_seconds,
  CASE WHEN configured.ending = 'completed' AND configured.end_at_ns >= configured.committed_at_ns
    THEN (configured.end_at_ns - configured.committed_at_ns) / 1e9 END AS transcription_seconds,
  configured.delta_count,
  list_avg(list_filter(
    coalesce(configured.logprobs, configured.delta_logprobs), lambda logprob: logprob BETWEEN -1e4 AND 0)) AS mean_logprob,
  configured.segment_count,
  configured.speaker_count,
  CAST(to_json(configured.segments) AS VARCHAR) AS segments,
  CASE WHEN configured.ending = 'failed' THEN configured.error ->> '$.type' END AS error_type,
  CASE WHEN configured.ending = 'failed' THEN configured.error ->> '$.code' END AS error_code,
  CASE WHEN configured.ending = 'failed' THEN configured.error ->> '$.message' END AS error_message,
  used.input_tokens,
  used.output_tokens,
  used.audio_seconds
FROM configured
JOIN session_spans USING (session_id)
LEFT JOIN used USING (session_id, item_id, content_index)
