-- A sum with an unknown part is unknown.
SELECT
  session_id,
  CASE WHEN count(*) = count(cost_pusd) THEN CAST(sum(cost_pusd) AS DECIMAL(24, 0)) * 0.000000000001 END AS cost_usd
FROM cost_parts
GROUP BY session_id
