-- Prices are looked up once for each model and day, not for each row. Amounts are whole numbers of pico-dollars
-- (10^-12 USD: a micro-dollar per million tokens is one per token), so that sums are exact.
WITH dated AS (
  SELECT
    billed.*,
    lower(billed.model) AS name,
    sessions.date,
    coalesce(sessions.date, current_date) AS day
  FROM stored.usage AS billed
  LEFT JOIN stored.sessions AS sessions ON sessions.session_id = billed.session_id
),
named AS (
  SELECT DISTINCT name FROM dated WHERE name IS NOT NULL
),
fitting AS (
  SELECT named.name, prices.*
  FROM named
  JOIN prices ON named.name = prices.model
    OR (right(prices.model, 1) = '*'
      AND left(named.name, length(prices.model) - 1) = left(prices.model, length(prices.model) - 1))
),
asked AS (
  SELECT DISTINCT name, day FROM dated WHERE name IS NOT NULL
),
ranked AS (
  SELECT
    asked.day,
    fitting.*,
    row_number() OVER (
      PARTITION BY asked.name, asked.day
      ORDER BY fitting.rank, coalesce(fitting.valid_from, DATE '0001-01-01') DESC
    ) AS place
  FROM asked
  JOIN fitting ON fitting.name = asked.name AND (fitting.valid_from IS NULL OR fitting.valid_from <= asked.day)
),
priced AS (
  SELECT
    name,
    day,
    model AS price_model,
    source AS price_source,
    valid_from AS price_valid_from,
    CAST(input_text_usd * 1000000 AS BIGINT) AS input_text,
    CAST(input_audio_usd * 1000000 AS BIGINT) AS input_audio,
    CAST(input_image_usd * 1000000 AS BIGINT) AS input_image,
    CAST(cached_text_usd * 1000000 AS BIGINT) AS cached_text,
    CAST(cached_audio_usd * 1000000 AS BIGINT) AS cached_audio,
    CAST(cached_image_usd * 1000000 AS BIGINT) AS cached_image,
    CAST(output_text_usd * 1000000 AS BIGINT) AS output_text,
    CAST(output_audio_usd * 1000000 AS BIGINT) AS output_audio,
    CAST(hour_usd * 1000000 AS BIGINT) AS hour
  FROM ranked
  WHERE place = 1
),
-- What was not used costs nothing, with a price or without; what was used and has no price makes the sum unknown.
parts AS (
  SELECT
    dated.session_id, dated.usage_no, dated.kind, dated.response_no, dated.response_id, dated.item_id,
    dated.position, dated.model, dated.date, dated.billed_by,
    dated.split_estimated OR dated.cached_split_estimated OR dated.seconds_estimated AS estimated,
    dated.date IS NULL AS price_day_assumed,
    priced.price_model, priced.price_source, priced.price_valid_from,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.uncached_text_tokens = 0 THEN 0
      ELSE dated.uncached_text_tokens * priced.input_text END AS uncached_text,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.uncached_audio_tokens = 0 THEN 0
      ELSE dated.uncached_audio_tokens * priced.input_audio END AS uncached_audio,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.uncached_image_tokens = 0 THEN 0
      ELSE dated.uncached_image_tokens * priced.input_image END AS uncached_image,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.cached_text_tokens = 0 THEN 0
      ELSE dated.cached_text_tokens * priced.cached_text END AS cached_text,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.cached_audio_tokens = 0 THEN 0
      ELSE dated.cached_audio_tokens * priced.cached_audio END AS cached_audio,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.cached_image_tokens = 0 THEN 0
      ELSE dated.cached_image_tokens * priced.cached_image END AS cached_image,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.output_text_tokens = 0 THEN 0
      ELSE dated.output_text_tokens * priced.output_text END AS output_text,
    CASE WHEN dated.billed_by = 'seconds' THEN NULL WHEN dated.output_audio_tokens = 0 THEN 0
      ELSE dated.output_audio_tokens * priced.output_audio END AS output_audio,
    CASE WHEN dated.billed_by <> 'seconds' THEN NULL WHEN dated.audio_seconds = 0 THEN 0
      ELSE CAST(round(dated.audio_seconds * priced.hour * 1000000 / 3600) AS BIGINT) END AS audio_time,
    CASE WHEN dated.cached_text_tokens = 0 THEN 0
      ELSE dated.cached_text_tokens * (priced.input_text - priced.cached_text) END
    + CASE WHEN dated.cached_audio_tokens = 0 THEN 0
      ELSE dated.cached_audio_tokens * (priced.input_audio - priced.cached_audio) END
    + CASE WHEN dated.cached_image_tokens = 0 THEN 0
      ELSE dated.cached_image_tokens * (priced.input_image - priced.cached_image) END AS cache_saving
  FROM dated
  LEFT JOIN priced ON priced.name = dated.name AND priced.day = dated.day
),
summed AS (
  SELECT
    *,
    uncached_text + uncached_audio + uncached_image + cached_text + cached_audio + cached_image AS input,
    output_text + output_audio AS output
  FROM parts
)
SELECT
  session_id, usage_no, kind, response_no, response_id, item_id, position, model, date,
  price_model, price_source, price_valid_from, price_day_assumed, estimated,
  CAST(uncached_text AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_text_cost_usd,
  CAST(uncached_audio AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_audio_cost_usd,
  CAST(uncached_image AS DECIMAL(24, 0)) * 0.000000000001 AS uncached_image_cost_usd,
  CAST(cached_text AS DECIMAL(24, 0)) * 0.000000000001 AS cached_text_cost_usd,
  CAST(cached_audio AS DECIMAL(24, 0)) * 0.000000000001 AS cached_audio_cost_usd,
  CAST(cached_image AS DECIMAL(24, 0)) * 0.000000000001 AS cached_image_cost_usd,
  CAST(output_text AS DECIMAL(24, 0)) * 0.000000000001 AS output_text_cost_usd,
  CAST(output_audio AS DECIMAL(24, 0)) * 0.000000000001 AS output_audio_cost_usd,
  CAST(audio_time AS DECIMAL(24, 0)) * 0.000000000001 AS audio_time_cost_usd,
  CAST(input AS DECIMAL(24, 0)) * 0.000000000001 AS input_cost_usd,
  CAST(output AS DECIMAL(24, 0)) * 0.000000000001 AS output_cost_usd,
  CAST(CASE WHEN billed_by = 'seconds' THEN audio_time ELSE input + output END AS DECIMAL(24, 0)) * 0.000000000001
    AS cost_usd,
  CAST(cache_saving AS DECIMAL(24, 0)) * 0.000000000001 AS cache_saving_usd
FROM summed
