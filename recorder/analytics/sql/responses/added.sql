SELECT session_id, response_no, CAST(max(cost_pusd) AS DECIMAL(24, 0)) * 0.000000000001 AS cost_usd
FROM cost_parts
WHERE kind = 'response'
GROUP BY session_id, response_no
