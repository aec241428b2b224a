WITH reports AS (
  SELECT session_id, position, at_ns, json_extract(body, '$.rate_limits[*]') AS limits
  FROM wire_events
  WHERE direction = 'server' AND type = 'rate_limits.updated'
),
listed AS (
  SELECT session_id, position, at_ns, unnest(limits) AS told, generate_subscripts(limits, 1) AS place
  FROM reports
),
told AS (
  SELECT
    session_id, position, at_ns, place,
    told ->> '$.name' AS name,
    -- What is no finite number of a sensible size is not told.
    CASE WHEN TRY_CAST(told ->> '$.limit' AS DOUBLE) BETWEEN -1e15 AND 1e15
      THEN TRY_CAST(told ->> '$.limit' AS DOUBLE) END AS limit_value,
    CASE WHEN TRY_CAST(told ->> '$.remaining' AS DOUBLE) BETWEEN -1e15 AND 1e15
      THEN TRY_CAST(told ->> '$.remaining' AS DOUBLE) END AS remaining_value,
    CASE WHEN TRY_CAST(told ->> '$.reset_seconds' AS DOUBLE) BETWEEN -1e9 AND 1e9
      THEN TRY_CAST(told ->> '$.reset_seconds' AS DOUBLE) END AS reset_seconds,
    CASE WHEN limit_value > 0 AND remaining_value >= 0 THEN remaining_value / limit_value
      WHEN limit_value > 0 AND remaining_value < 0 THEN 0 END AS remaining_ratio
  FROM listed
),
begun AS (
  SELECT session_id, response_no, min(position) AS position
  FROM response_events
  WHERE type LIKE 'response.%'
  GROUP BY session_id, response_no
)
SELECT
  told.session_id,
  row_number() OVER (PARTITION BY told.session_id ORDER BY told.position, told.place) AS rate_limit_no,
  told.position,
  told.at_ns,
  begun.response_no,
  told.name,
  told.limit_value,
  told.remaining_value,
  told.reset_seconds,
  told.remaining_ratio,
  min(told.remaining_ratio) OVER (
    PARTITION BY told.session_id, told.name ORDER BY told.position, told.place) AS lowest_remaining_ratio
FROM told
ASOF LEFT JOIN begun ON begun.session_id = told.session_id AND begun.position < told.position
