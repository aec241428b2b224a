-- Input and output, each divided by what prices differ by: kind of content, and cached or not.
WITH translations AS (
  SELECT session_id, max(position) AS position, max(at_ns) AS at_ns, max(recorded_at) AS recorded_at
  FROM (
    SELECT session_id, position, at_ns, recorded_at FROM wire_events
    UNION ALL
    SELECT session_id, position, monotonic_ns, recorded_at FROM deltas
  ) AS said
  SEMI JOIN (FROM session_configs WHERE session_type = 'translation') AS translating USING (session_id)
  ANTI JOIN (FROM usage_reports WHERE kind = 'session') AS told USING (session_id)
  GROUP BY session_id
),
reports AS (
  SELECT
    *,
    coalesce(usage_type = 'duration', audio_seconds IS NOT NULL) AS by_seconds,
    false AS seconds_estimated
  FROM usage_reports
  UNION ALL BY NAME
  -- A translation is billed by the length of its audio, and no event tells of it.
  SELECT translations.*, 'session' AS kind, session_spans.audio_in_ms / 1e3 AS audio_seconds,
    true AS by_seconds, true AS seconds_estimated
  FROM translations
  JOIN session_spans ON session_spans.session_id = translations.session_id
  WHERE session_spans.audio_in_ms > 0
),
-- NULL where a whole side is not told; 0 where others are told beside it.
amounts AS (
  SELECT
    *,
    coalesce(input_tokens, input_text_tokens, input_audio_tokens, input_image_tokens) IS NOT NULL AS has_input,
    coalesce(output_tokens, output_text_tokens, output_audio_tokens) IS NOT NULL AS has_output,
    CASE WHEN has_input THEN coalesce(input_audio_tokens, 0) END AS audio,
    CASE WHEN has_input THEN coalesce(input_image_tokens, 0) END AS image,
    CASE WHEN has_output THEN coalesce(output_audio_tokens, 0) END AS output_audio,
    coalesce(cached_text_tokens, 0) + coalesce(cached_audio_tokens, 0) + coalesce(cached_image_tokens, 0)
      AS cached_details
  FROM reports
),
-- What no detail tells of is text: so prompts of models that hear nothing are told, and reasoning.
parted AS (
  SELECT
    *,
    CASE WHEN has_input THEN greatest(coalesce(input_text_tokens, 0), coalesce(input_tokens, 0) - audio - image) END
      AS text,
    CASE WHEN has_output THEN greatest(coalesce(output_text_tokens, 0), coalesce(output_tokens, 0) - output_audio) END
      AS output_text
  FROM amounts
),
-- Cached tokens by their own details, as far as these go and fit; the rest are text, then audio, then image.
detailed AS (
  SELECT
    *,
    least(coalesce(cached_text_tokens, 0), text) AS detailed_text,
    least(coalesce(cached_audio_tokens, 0), audio) AS detailed_audio,
    least(coalesce(cached_image_tokens, 0), image) AS detailed_image,
    coalesce(cached_tokens, cached_details) - detailed_text - detailed_audio - detailed_image AS rest
  FROM parted
),
divided AS (
  SELECT
    *,
    detailed_text + greatest(least(rest, text - detailed_text), 0) AS cached_text,
    detailed_audio + greatest(least(detailed_text + rest - text, audio - detailed_audio), 0) AS cached_audio,
    detailed_image + greatest(least(
      detailed_text + detailed_audio + rest - text - audio, image - detailed_image), 0) AS cached_image
  FROM detailed
),
-- The model is the one in force when the thing was asked for: a response begun, audio committed for transcription.
begun AS (
  SELECT session_id, response_no, min(position) AS position
  FROM response_events
  WHERE type LIKE 'response.%'
  GROUP BY session_id, response_no
),
committed AS (
  SELECT session_id, item_id, min(position) AS position
  FROM wire_events
  WHERE direction = 'server' AND type = 'input_audio_buffer.committed' AND item_id IS NOT NULL
  GROUP BY session_id, item_id
),
asked AS (
  SELECT divided.*, coalesce(begun.position, committed.position, divided.position) AS asked_position
  FROM divided
  LEFT JOIN begun ON begun.session_id = divided.session_id AND begun.response_no = divided.response_no
  LEFT JOIN committed ON committed.session_id = divided.session_id AND committed.item_id = divided.item_id
)
SELECT
  asked.session_id,
  row_number() OVER (PARTITION BY asked.session_id ORDER BY asked.position, asked.kind) AS usage_no,
  asked.kind,
  asked.response_no,
  asked.response_id,
  response_triggers.out_of_band,
  asked.item_id,
  CASE WHEN asked.kind = 'transcription'
      THEN coalesce(session_configs.transcription_model,
        CASE WHEN session_configs.session_type = 'transcription' THEN session_configs.model END)
    ELSE coalesce(asked.model, session_configs.model) END AS model,
  session_spans.date,
  asked.position,
  asked.recorded_at,
  asked.at_ns,
  CASE WHEN asked.by_seconds THEN 'seconds' ELSE 'tokens' END AS billed_by,
  asked.input_tokens,
  asked.output_tokens,
  asked.total_tokens,
  asked.cached_tokens,
  asked.reasoning_tokens,
  asked.text - asked.cached_text AS uncached_text_tokens,
  asked.audio - asked.cached_audio AS uncached_audio_tokens,
  asked.image - asked.cached_image AS uncached_image_tokens,
  CASE WHEN asked.has_input THEN asked.cached_text END AS cached_text_tokens,
  CASE WHEN asked.has_input THEN asked.cached_audio END AS cached_audio_tokens,
  CASE WHEN asked.has_input THEN asked.cached_image END AS cached_image_tokens,
  asked.output_text AS output_text_tokens,
  asked.output_audio AS output_audio_tokens,
  asked.audio_seconds,
  coalesce(
    asked.text > coalesce(asked.input_text_tokens, 0)
      OR (asked.kind = 'response' AND asked.output_text
        > coalesce(asked.output_text_tokens, 0) + coalesce(asked.reasoning_tokens, 0)),
    false) AS split_estimated,
  coalesce(asked.rest <> 0, false) AS cached_split_estimated,
  asked.seconds_estimated
FROM asked
JOIN session_spans ON session_spans.session_id = asked.session_id
LEFT JOIN response_triggers
  ON response_triggers.session_id = asked.session_id AND response_triggers.response_no = asked.response_no
ASOF LEFT JOIN session_configs
  ON session_configs.session_id = asked.session_id AND session_configs.position < asked.asked_position
