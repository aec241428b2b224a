-- Usage as told. It stands in the response, or beside it; an empty one says nothing; of several for one response or
-- transcription the last that says something counts, and of a session's, which are running totals, the last. What cannot
-- be counts as not told, so that it spoils no sum: a count below 0 or above a hundred million, a length above a million
-- seconds.
WITH said AS MATERIALIZED (
  SELECT
    wire_events.session_id, wire_events.position, wire_events.at_ns, wire_events.recorded_at,
    CASE
      WHEN wire_events.type = 'response.done' THEN 'response'
      WHEN wire_events.type LIKE 'session.%' THEN 'session'
      ELSE 'transcription'
    END AS kind,
    response_events.response_no,
    response_events.response_id,
    CASE WHEN kind = 'transcription' THEN wire_events.item_id END AS item_id,
    CASE WHEN kind = 'transcription' THEN wire_events.content_index END AS content_index,
    wire_events.body ->> '$.response.model' AS model,
    coalesce(
      nullif(nullif(CAST(wire_events.body -> '$.response.usage' AS VARCHAR), '{}'), 'null'),
      nullif(nullif(CAST(wire_events.body -> '$.usage' AS VARCHAR), '{}'), 'null')
    )::JSON AS usage
  FROM wire_events
  LEFT JOIN (FROM response_events WHERE type = 'response.done') AS response_events
    ON response_events.session_id = wire_events.session_id AND response_events.position = wire_events.position
  WHERE wire_events.direction = 'server' AND wire_events.type IN (
    'response.done', 'conversation.item.input_audio_transcription.completed', 'session.usage.updated',
    'session.closed')
),
detailed AS (
  SELECT
    *,
    coalesce(usage -> '$.input_token_details', usage -> '$.input_tokens_details') AS input,
    coalesce(usage -> '$.output_token_details', usage -> '$.output_tokens_details') AS output
  FROM said
  WHERE usage IS NOT NULL
),
told AS MATERIALIZED (
  SELECT
    * EXCLUDE (usage, input, output),
    usage ->> '$.type' AS usage_type,
    TRY_CAST(usage ->> '$.input_tokens' AS BIGINT) AS input_tokens,
    TRY_CAST(usage ->> '$.output_tokens' AS BIGINT) AS output_tokens,
    TRY_CAST(usage ->> '$.total_tokens' AS BIGINT) AS total_tokens,
    TRY_CAST(input ->> '$.text_tokens' AS BIGINT) AS input_text_tokens,
    TRY_CAST(input ->> '$.audio_tokens' AS BIGINT) AS input_audio_tokens,
    TRY_CAST(input ->> '$.image_tokens' AS BIGINT) AS input_image_tokens,
    TRY_CAST(input ->> '$.cached_tokens' AS BIGINT) AS cached_tokens,
    TRY_CAST(input ->> '$.cached_tokens_details.text_tokens' AS BIGINT) AS cached_text_tokens,
    TRY_CAST(input ->> '$.cached_tokens_details.audio_tokens' AS BIGINT) AS cached_audio_tokens,
    TRY_CAST(input ->> '$.cached_tokens_details.image_tokens' AS BIGINT) AS cached_image_tokens,
    TRY_CAST(output ->> '$.text_tokens' AS BIGINT) AS output_text_tokens,
    TRY_CAST(output ->> '$.audio_tokens' AS BIGINT) AS output_audio_tokens,
    TRY_CAST(output ->> '$.reasoning_tokens' AS BIGINT) AS reasoning_tokens,
    TRY_CAST(usage ->> '$.seconds' AS DOUBLE) AS seconds
  FROM detailed
),
possible AS (
  SELECT
    COLUMNS(lambda name: name <> 'seconds' AND NOT ends_with(name, '_tokens')),
    CASE WHEN COLUMNS('(.*_tokens)$') BETWEEN 0 AND 100000000 THEN COLUMNS('(.*_tokens)$') END AS '\1',
    CASE WHEN seconds BETWEEN 0 AND 1e6 THEN seconds END AS audio_seconds
  FROM told
)
SELECT * REPLACE (
  -- What is told as cached is part of the input, whatever the numbers say.
  CASE WHEN cached_tokens > input_tokens THEN input_tokens ELSE cached_tokens END AS cached_tokens,
  coalesce(total_tokens, input_tokens + output_tokens) AS total_tokens)
FROM possible
WHERE coalesce(input_tokens, output_tokens, total_tokens, input_text_tokens, input_audio_tokens, input_image_tokens,
  output_text_tokens, output_audio_tokens, audio_seconds) IS NOT NULL
-- Without a response or an item to belong to, each is its own.
QUALIFY row_number() OVER (
  PARTITION BY session_id, kind, response_no, item_id, coalesce(content_index, 0),
    CASE WHEN kind = 'session' OR response_no IS NOT NULL OR item_id IS NOT NULL THEN -1 ELSE position END
  ORDER BY position DESC) = 1
