WITH spent AS (
  SELECT
    $select
    costs.session_id,
    count(*) AS n,
    count(*) - count(costs.cost_usd) AS unpriced,
    sum(costs.cost_usd) AS cost_usd,
    sum(costs.input_cost_usd) AS input_cost_usd,
    sum(costs.output_cost_usd) AS output_cost_usd,
    sum(costs.audio_time_cost_usd) AS audio_time_cost_usd,
    sum(costs.cache_saving_usd) AS cache_saving_usd,
    max(chosen.duration_seconds) AS seconds
  FROM costs
  JOIN chosen ON chosen.session_id = costs.session_id
  GROUP BY $exprs costs.session_id
)
SELECT
  $names
  CAST(sum(n) AS BIGINT) AS n,
  count(*) AS sessions,
  CAST(sum(unpriced) AS BIGINT) AS unpriced,
  sum(cost_usd) AS cost_usd,
  sum(input_cost_usd) AS input_cost_usd,
  sum(output_cost_usd) AS output_cost_usd,
  sum(audio_time_cost_usd) AS audio_time_cost_usd,
  sum(cache_saving_usd) AS cache_saving_usd,
  sum(CASE WHEN unpriced = 0 THEN seconds END) / 60 AS minutes,
  CAST(sum(CASE WHEN unpriced = 0 AND seconds IS NOT NULL THEN cost_usd END) AS DOUBLE)
    / nullif(sum(CASE WHEN unpriced = 0 THEN seconds END) / 60, 0) AS cost_per_minute_usd,
  CAST(sum(CASE WHEN unpriced = 0 THEN cost_usd END) AS DOUBLE)
    / nullif(count(CASE WHEN unpriced = 0 THEN 1 END), 0) AS cost_per_session_usd
FROM spent
$group_names
