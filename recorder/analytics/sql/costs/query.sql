SELECT
  session_id, usage_no, kind, response_no, response_id, item_id, position, model, date,
  price_model, price_source, price_valid_from, date IS NULL AS price_day_assumed, estimated,
  CAST(uncached_text_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_text_cost_usd,
  CAST(uncached_audio_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_audio_cost_usd,
  CAST(uncached_image_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_image_cost_usd,
  CAST(cached_text_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS cached_text_cost_usd,
  CAST(cached_audio_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS cached_audio_cost_usd,
  CAST(cached_image_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS cached_image_cost_usd,
  CAST(output_text_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS output_text_cost_usd,
  CAST(output_audio_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS output_audio_cost_usd,
  CAST(audio_time_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS audio_time_cost_usd,
  CAST(
    uncached_text_pusd + uncached_audio_pusd + uncached_image_pusd + cached_text_pusd + cached_audio_pusd
    + cached_image_pusd
    AS DECIMAL(24, 0)) * 0.000000000001 AS input_cost_usd,
  CAST(output_text_pusd + output_audio_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS output_cost_usd,
  CAST(cost_pusd AS DECIMAL(24, 0)) * 0.000000000001 AS cost_usd,
  CAST(
    CASE WHEN cached_text_tokens = 0 THEN 0 ELSE cached_text_tokens * text_saving END
    + CASE WHEN cached_audio_tokens = 0 THEN 0 ELSE cached_audio_tokens * audio_saving END
    + CASE WHEN cached_image_tokens = 0 THEN 0 ELSE cached_image_tokens * image_saving END
    AS DECIMAL(24, 0)) * 0.000000000001 AS cache_saving_usd
FROM cost_parts
