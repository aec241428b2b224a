-- Names are looked up once for each model, not for each row. What was not used costs nothing, with a price or without.
SELECT
  *,
  CASE WHEN billed_by = 'seconds' THEN audio_time_pusd
    ELSE uncached_text_pusd + uncached_audio_pusd + uncached_image_pusd + cached_text_pusd + cached_audio_pusd
      + cached_image_pusd + output_text_pusd + output_audio_pusd
  END AS cost_pusd
FROM (
  SELECT
    billed.session_id, billed.usage_no, billed.kind, billed.response_no, billed.response_id, billed.item_id,
    billed.position, billed.model, billed.billed_by, billed.date,
    billed.split_estimated OR billed.cached_split_estimated OR billed.seconds_estimated AS estimated,
    billed.cached_text_tokens, billed.cached_audio_tokens, billed.cached_image_tokens,
    named.price_model, named.price_source, named.price_valid_from,
    CASE WHEN billed.uncached_text_tokens = 0 THEN 0 ELSE billed.uncached_text_tokens * named.input_text END
      AS uncached_text_pusd,
    CASE WHEN billed.uncached_audio_tokens = 0 THEN 0 ELSE billed.uncached_audio_tokens * named.input_audio END
      AS uncached_audio_pusd,
    CASE WHEN billed.uncached_image_tokens = 0 THEN 0 ELSE billed.uncached_image_tokens * named.input_image END
      AS uncached_image_pusd,
    CASE WHEN billed.cached_text_tokens = 0 THEN 0 ELSE billed.cached_text_tokens * named.cached_text END
      AS cached_text_pusd,
    CASE WHEN billed.cached_audio_tokens = 0 THEN 0 ELSE billed.cached_audio_tokens * named.cached_audio END
      AS cached_audio_pusd,
    CASE WHEN billed.cached_image_tokens = 0 THEN 0 ELSE billed.cached_image_tokens * named.cached_image END
      AS cached_image_pusd,
    CASE WHEN billed.output_text_tokens = 0 THEN 0 ELSE billed.output_text_tokens * named.output_text END
      AS output_text_pusd,
    CASE WHEN billed.output_audio_tokens = 0 THEN 0 ELSE billed.output_audio_tokens * named.output_audio END
      AS output_audio_pusd,
    CAST(round(billed.audio_seconds * named.hour * 1000000 / 3600) AS BIGINT) AS audio_time_pusd,
    named.input_text - named.cached_text AS text_saving,
    named.input_audio - named.cached_audio AS audio_saving,
    named.input_image - named.cached_image AS image_saving
  FROM stored.usage AS billed
  LEFT JOIN (
    SELECT models.name, ranges.*
    FROM (SELECT DISTINCT lower(model) AS name FROM stored.usage) AS models
    JOIN stored.price_ranges AS ranges ON models.name >= ranges.first_name AND models.name < ranges.end_name
  ) AS named
    ON named.name = lower(billed.model) AND named.billed_by = billed.billed_by
      AND coalesce(billed.date, current_date) >= named.first_day AND coalesce(billed.date, current_date) < named.end_day
) AS parts
