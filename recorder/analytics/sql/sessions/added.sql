-- A sum with an unknown part is unknown.
SELECT
  costs.session_id,
  CASE WHEN count(*) = count(costs.cost_usd) THEN sum(costs.cost_usd) END AS cost_usd,
  CASE WHEN count(*) = count(costs.cost_usd)
    THEN CAST(sum(costs.cost_usd) AS DOUBLE) / nullif(max(lengths.duration_seconds) / 60, 0) END AS cost_per_minute_usd
FROM costs
JOIN stored.sessions AS lengths ON lengths.session_id = costs.session_id
GROUP BY costs.session_id
