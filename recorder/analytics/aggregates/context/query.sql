SELECT
  $select
  count(contexts.context_truncated) AS n,
  count(CASE WHEN contexts.context_truncated THEN 1 END) AS truncated,
  count(CASE WHEN contexts.context_truncated THEN 1 END) / CAST(nullif(count(contexts.context_truncated), 0) AS DOUBLE)
    AS truncation_ratio,
  CAST(sum(contexts.dropped_tokens) AS BIGINT) AS dropped_tokens,
  count(contexts.cache_bust) AS cache_n,
  count(CASE WHEN contexts.cache_bust THEN 1 END) AS cache_busts,
  count(CASE WHEN contexts.cache_bust THEN 1 END) / CAST(nullif(count(contexts.cache_bust), 0) AS DOUBLE)
    AS cache_bust_ratio,
  sum(contexts.extra_cost_usd) AS extra_cost_usd,
  CAST(max(contexts.input_tokens) AS BIGINT) AS largest_input_tokens
FROM contexts
JOIN chosen ON chosen.session_id = contexts.session_id
LEFT JOIN stored.responses AS responses
  ON responses.session_id = contexts.session_id AND responses.response_no = contexts.response_no
$group
