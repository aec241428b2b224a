SELECT session_id, response_no, any_value(cost_usd) AS cost_usd
FROM costs
WHERE kind = 'response'
GROUP BY session_id, response_no
