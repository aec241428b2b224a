SELECT
  $select
  count(*) AS n,
  CAST(sum(billed.input_tokens) AS BIGINT) AS input_tokens,
  CAST(sum(billed.uncached_text_tokens + billed.cached_text_tokens) AS BIGINT) AS input_text_tokens,
  CAST(sum(billed.uncached_audio_tokens + billed.cached_audio_tokens) AS BIGINT) AS input_audio_tokens,
  CAST(sum(billed.uncached_image_tokens + billed.cached_image_tokens) AS BIGINT) AS input_image_tokens,
  CAST(sum(billed.cached_tokens) AS BIGINT) AS cached_tokens,
  CAST(sum(billed.output_tokens) AS BIGINT) AS output_tokens,
  CAST(sum(billed.output_text_tokens) AS BIGINT) AS output_text_tokens,
  CAST(sum(billed.output_audio_tokens) AS BIGINT) AS output_audio_tokens,
  CAST(sum(billed.reasoning_tokens) AS BIGINT) AS reasoning_tokens,
  CAST(sum(billed.total_tokens) AS BIGINT) AS total_tokens,
  sum(billed.audio_seconds) AS audio_seconds,
  sum(billed.cached_tokens)
    / CAST(nullif(sum(CASE WHEN billed.cached_tokens IS NOT NULL THEN billed.input_tokens END), 0) AS DOUBLE)
    AS cache_hit_ratio,
  count(CASE WHEN billed.split_estimated OR billed.cached_split_estimated OR billed.seconds_estimated THEN 1 END)
    AS estimated
FROM stored.usage AS billed
JOIN chosen ON chosen.session_id = billed.session_id
$group
