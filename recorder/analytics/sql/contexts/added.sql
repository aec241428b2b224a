-- What is not cached any longer is billed at the full price.
SELECT
  contexts.session_id,
  contexts.response_no,
  any_value(CAST(
    CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_text_tokens = 0 THEN 0 ELSE
      contexts.lost_cached_text_tokens * CAST((prices.input_text_usd - prices.cached_text_usd) * 1000000 AS BIGINT) END
    + CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_audio_tokens = 0 THEN 0 ELSE
      contexts.lost_cached_audio_tokens * CAST((prices.input_audio_usd - prices.cached_audio_usd) * 1000000 AS BIGINT) END
    + CASE WHEN NOT contexts.cache_bust OR contexts.lost_cached_image_tokens = 0 THEN 0 ELSE
      contexts.lost_cached_image_tokens * CAST((prices.input_image_usd - prices.cached_image_usd) * 1000000 AS BIGINT) END
    AS DECIMAL(24, 0)) * 0.000000000001) AS extra_cost_usd
FROM stored.contexts AS contexts
JOIN costs
  ON costs.session_id = contexts.session_id AND costs.kind = 'response' AND costs.response_no = contexts.response_no
JOIN prices
  ON prices.model = costs.price_model AND prices.source = costs.price_source
    AND coalesce(prices.valid_from, DATE '0001-01-01') = coalesce(costs.price_valid_from, DATE '0001-01-01')
WHERE contexts.cache_bust IS NOT NULL
GROUP BY contexts.session_id, contexts.response_no
