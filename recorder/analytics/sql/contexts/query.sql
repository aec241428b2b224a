-- Consecutive responses of the default conversation that read it. What the second ought to have read: what the first
-- read and said, and what was added in between.
WITH readers AS (
  SELECT
    responses.session_id, responses.response_no, responses.response_id, responses.status,
    coalesce(responses.created_position, responses.first_token_position, responses.done_position) AS position,
    responses.created_at_ns, coalesce(responses.done_at_ns, responses.created_at_ns) AS done_at_ns,
    responses.input_tokens, responses.output_tokens, responses.reasoning_tokens, responses.cached_tokens,
    usage.cached_text_tokens, usage.cached_audio_tokens, usage.cached_image_tokens,
    responses.model,
    md5(asked.body ->> '$.response.instructions') AS own_instructions_md5,
    md5(CAST(asked.body -> '$.response.tools' AS VARCHAR)) AS own_tools_md5
  FROM responses
  LEFT JOIN usage
    ON usage.session_id = responses.session_id AND usage.response_no = responses.response_no
  LEFT JOIN (FROM wire_events WHERE direction = 'client' AND type = 'response.create') AS asked
    ON asked.session_id = responses.session_id AND asked.position = responses.trigger_position
  WHERE NOT responses.out_of_band
    AND coalesce(json_type(asked.body, '$.response.input'), 'NULL') = 'NULL'
),
configured AS (
  SELECT
    readers.*,
    session_configs.truncation,
    [
      coalesce(readers.own_instructions_md5, session_configs.instructions_md5),
      coalesce(readers.own_tools_md5, session_configs.tools_md5),
      readers.model
    ] AS prefix
  FROM readers
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = readers.session_id AND session_configs.position < readers.position
  WHERE readers.position IS NOT NULL
),
paired AS (
  SELECT
    configured.*,
    lag(configured.response_no) OVER in_order AS previous_no,
    lag(configured.position) OVER in_order AS previous_position,
    lag(configured.done_at_ns) OVER in_order AS previous_done_at_ns,
    lag(configured.status) OVER in_order AS previous_status,
    lag(configured.input_tokens) OVER in_order AS previous_input_tokens,
    lag(configured.output_tokens) OVER in_order AS previous_output_tokens,
    lag(configured.reasoning_tokens) OVER in_order AS previous_reasoning_tokens,
    lag(configured.cached_tokens) OVER in_order AS previous_cached_tokens,
    lag(configured.cached_text_tokens) OVER in_order AS previous_cached_text_tokens,
    lag(configured.cached_audio_tokens) OVER in_order AS previous_cached_audio_tokens,
    lag(configured.cached_image_tokens) OVER in_order AS previous_cached_image_tokens,
    lag(configured.prefix) OVER in_order AS previous_prefix
  FROM configured
  WINDOW in_order AS (PARTITION BY configured.session_id ORDER BY configured.position, configured.response_no)
),
-- A character of text is a quarter of a token; a second of the user's audio 10 tokens, of the assistant's 20.
items_weighed AS (
  SELECT
    item_facts.session_id, item_facts.created_position AS position, item_facts.response_no,
    coalesce(
      turns.audio_ms / CASE WHEN turns.speaker = 'user' THEN 100 ELSE 50 END,
      length(coalesce(item_facts.text, tool_calls.output)) / 4,
      0) AS tokens
  FROM item_facts
  LEFT JOIN turns ON turns.session_id = item_facts.session_id AND turns.item_id = item_facts.item_id
  LEFT JOIN tool_calls
    ON tool_calls.session_id = item_facts.session_id AND tool_calls.call_id = item_facts.call_id
    AND item_facts.type = 'function_call_output'
  LEFT JOIN (FROM response_triggers WHERE out_of_band) AS apart
    ON apart.session_id = item_facts.session_id AND apart.response_no = item_facts.response_no
  WHERE apart.response_no IS NULL
),
changes AS (
  SELECT session_id, position, response_no, tokens, 'added' AS change FROM items_weighed
  UNION ALL
  SELECT session_id, deleted_position, NULL, 0, 'edited' FROM item_facts WHERE deleted_position IS NOT NULL
  UNION ALL
  SELECT session_id, created_position, NULL, 0, 'edited' FROM item_facts WHERE previous_item_id = 'root'
  UNION ALL
  SELECT session_id, position, NULL, 0, 'truncated' FROM truncations WHERE NOT rejected
),
summed AS (
  SELECT
    paired.session_id, paired.response_no,
    count(*) FILTER (changes.change = 'added') AS added_count,
    sum(changes.tokens) AS added_tokens,
    count(*) FILTER (changes.change = 'edited') AS edit_count,
    count(*) FILTER (changes.change = 'truncated') AS truncate_count
  FROM changes
  ASOF JOIN paired ON paired.session_id = changes.session_id AND paired.position > changes.position
  WHERE changes.response_no IS NULL OR changes.response_no <> paired.previous_no
  GROUP BY paired.session_id, paired.response_no
),
expected AS (
  SELECT
    paired.*,
    coalesce(summed.added_count, 0) AS added_item_count,
    coalesce(summed.added_tokens, 0) AS added_tokens,
    coalesce(summed.edit_count, 0) > 0 AS edited,
    paired.prefix IS DISTINCT FROM paired.previous_prefix AS config_changed,
    CASE WHEN NOT edited AND NOT config_changed
      THEN paired.previous_input_tokens + paired.previous_output_tokens + coalesce(summed.added_tokens, 0)
    END AS expected_tokens,
    -- Half of what was reckoned and some tokens an item; of what the first said, what may not have stayed.
    coalesce(summed.added_tokens, 0) / 2 + 20 * coalesce(summed.added_count, 0) + 16
      + CASE WHEN summed.truncate_count > 0 OR paired.previous_status <> 'completed' THEN paired.previous_output_tokens
        ELSE greatest(coalesce(paired.previous_reasoning_tokens, 0), paired.previous_output_tokens / 10) END
      AS tolerance_tokens
  FROM paired
  LEFT JOIN summed USING (session_id, response_no)
  WHERE paired.previous_input_tokens IS NOT NULL AND paired.input_tokens IS NOT NULL
),
judged AS (
  SELECT
    *,
    expected_tokens - tolerance_tokens > input_tokens AS context_truncated,
    CASE WHEN edited THEN false ELSE cached_tokens < previous_cached_tokens END AS cache_bust
  FROM expected
)
SELECT
  session_id,
  response_no,
  response_id,
  previous_no AS previous_response_no,
  position,
  previous_position,
  input_tokens,
  previous_input_tokens,
  previous_output_tokens,
  added_item_count,
  CAST(round(added_tokens) AS BIGINT) AS added_tokens,
  CAST(round(expected_tokens) AS BIGINT) AS expected_input_tokens,
  CASE WHEN expected_tokens IS NOT NULL THEN CAST(ceil(tolerance_tokens) AS BIGINT) END AS tolerance_tokens,
  CASE WHEN expected_tokens IS NOT NULL THEN added_item_count > 0 END AS expected_estimated,
  context_truncated,
  CASE WHEN context_truncated THEN CAST(round(expected_tokens) AS BIGINT) - input_tokens END AS dropped_tokens,
  cached_tokens,
  previous_cached_tokens,
  cache_bust,
  CASE WHEN cache_bust THEN CASE
    WHEN context_truncated THEN 'truncation'
    WHEN config_changed THEN 'config_change'
    WHEN created_at_ns - previous_done_at_ns > 300e9 THEN 'idle_expiry'
    ELSE 'unknown'
  END END AS cache_bust_cause,
  CASE WHEN cache_bust THEN greatest(previous_cached_text_tokens - cached_text_tokens, 0) END AS lost_cached_text_tokens,
  CASE WHEN cache_bust THEN greatest(previous_cached_audio_tokens - cached_audio_tokens, 0) END
    AS lost_cached_audio_tokens,
  CASE WHEN cache_bust THEN greatest(previous_cached_image_tokens - cached_image_tokens, 0) END
    AS lost_cached_image_tokens,
  config_changed,
  edited AS history_edited,
  CASE WHEN json_type(truncation) = 'VARCHAR' THEN truncation ->> '$' ELSE truncation ->> '$.type' END AS truncation,
  CASE WHEN TRY_CAST(truncation ->> '$.retention_ratio' AS DOUBLE) BETWEEN 0 AND 1
    THEN TRY_CAST(truncation ->> '$.retention_ratio' AS DOUBLE) END AS retention_ratio,
  TRY_CAST(truncation ->> '$.token_limits.post_instructions' AS BIGINT) AS limit_tokens
FROM judged
