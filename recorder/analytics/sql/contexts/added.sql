-- What is not cached any longer is billed at the full price.
SELECT
  contexts.session_id,
  contexts.response_no,
  max(CAST(
    CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_text_tokens = 0 THEN 0
      ELSE contexts.lost_cached_text_tokens * parts.text_saving END
    + CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_audio_tokens = 0 THEN 0
      ELSE contexts.lost_cached_audio_tokens * parts.audio_saving END
    + CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_image_tokens = 0 THEN 0
      ELSE contexts.lost_cached_image_tokens * parts.image_saving END
    AS DECIMAL(24, 0)) * 0.000000000001) AS extra_cost_usd
FROM stored.contexts AS contexts
JOIN cost_parts AS parts
  ON parts.session_id = contexts.session_id AND parts.kind = 'response' AND parts.response_no = contexts.response_no
WHERE contexts.cache_bust IS NOT NULL AND parts.price_model IS NOT NULL
GROUP BY contexts.session_id, contexts.response_no
