WITH items AS MATERIALIZED (
  SELECT session_id, position, at_ns, direction, type, response_id, body -> '$.item' AS item, item_id
  FROM (
    FROM wire_events
    WHERE type IN (
      'conversation.item.create', 'conversation.item.added', 'conversation.item.created', 'conversation.item.done',
      'response.output_item.added', 'response.output_item.done')
  ) AS about_items
  WHERE body ->> '$.item.type' IN (
    'mcp_list_tools', 'mcp_call', 'mcp_approval_request', 'mcp_approval_response')
),
described AS (
  SELECT
    session_id, item_id,
    arg_max(item ->> '$.type', position) AS item_type,
    min(position) AS position,
    min(at_ns) AS at_ns,
    min(position) FILTER (type LIKE '%.done') AS done_position,
    min(at_ns) FILTER (type LIKE '%.done') AS done_at_ns,
    arg_max(item ->> '$.server_label', position) AS server_label,
    arg_max(item ->> '$.name', position) AS name,
    arg_max(item ->> '$.arguments', position) AS arguments,
    arg_max(item ->> '$.output', position) AS output,
    arg_max(item ->> '$.approval_request_id', position) AS approval_request_id,
    arg_max(item -> '$.error', position) FILTER (coalesce(json_type(item, '$.error'), 'NULL') <> 'NULL') AS error,
    arg_max(json_array_length(item, '$.tools'), position) AS tool_count,
    any_value(response_id) AS response_id
  FROM items
  WHERE direction = 'server' AND item_id IS NOT NULL AND item ->> '$.type' <> 'mcp_approval_response'
  GROUP BY session_id, item_id
),
steps AS (
  SELECT
    session_id, item_id,
    CASE WHEN bool_or(type LIKE 'mcp\_list\_tools.%' ESCAPE '\') THEN 'mcp_list_tools' ELSE 'mcp_call' END AS item_type,
    min(position) AS position,
    min(at_ns) AS at_ns,
    min(at_ns) FILTER (type LIKE '%.in\_progress' ESCAPE '\') AS started_at_ns,
    min(position) FILTER (type LIKE '%.completed' OR type LIKE '%.failed') AS end_position,
    min(at_ns) FILTER (type LIKE '%.completed' OR type LIKE '%.failed') AS end_at_ns,
    bool_or(type LIKE '%.failed') AS failed,
    arg_max(body ->> '$.arguments', position) FILTER (type LIKE '%arguments.done') AS arguments,
    string_agg(body ->> '$.delta', '' ORDER BY position) FILTER (type LIKE '%.delta') AS streamed,
    arg_max(body -> '$.error', position) FILTER (coalesce(json_type(body, '$.error'), 'NULL') <> 'NULL') AS error,
    any_value(response_id) AS response_id
  FROM wire_events
  WHERE direction = 'server' AND item_id IS NOT NULL AND type IN (
    'mcp_list_tools.in_progress', 'mcp_list_tools.completed', 'mcp_list_tools.failed',
    'response.mcp_call.in_progress', 'response.mcp_call.completed', 'response.mcp_call.failed',
    'response.mcp_call_arguments.delta', 'response.mcp_call_arguments.done')
  GROUP BY session_id, item_id
),
-- The client's answer to a request for approval, as an item or (Voice Live) as an event; on a sideband connection that only
-- watches, the server's echo.
answers AS (
  SELECT session_id, position, at_ns, direction, item ->> '$.approval_request_id' AS approval_request_id,
    TRY_CAST(item ->> '$.approve' AS BOOLEAN) AS approve
  FROM items
  WHERE item ->> '$.type' = 'mcp_approval_response'
  UNION ALL
  SELECT session_id, position, at_ns, direction, body ->> '$.approval_request_id',
    TRY_CAST(body ->> '$.approve' AS BOOLEAN)
  FROM wire_events
  WHERE direction = 'client' AND type = 'mcp_approval_response'
),
approvals AS (
  SELECT
    answers.session_id, answers.approval_request_id,
    arg_min(answers.position, (answers.direction = 'server', answers.position)) AS position,
    arg_min(answers.at_ns, (answers.direction = 'server', answers.position)) AS at_ns,
    arg_min(answers.approve, (answers.direction = 'server', answers.position)) AS approve
  FROM answers
  ANTI JOIN rejections ON rejections.session_id = answers.session_id AND rejections.position = answers.position
  WHERE answers.approval_request_id IS NOT NULL
  GROUP BY answers.session_id, answers.approval_request_id
),
requests AS (
  SELECT
    described.session_id, described.item_id, described.position, described.at_ns,
    approvals.position AS answer_position, approvals.approve,
    CASE WHEN approvals.at_ns >= described.at_ns THEN (approvals.at_ns - described.at_ns) / 1e9 END AS wait_seconds
  FROM described
  LEFT JOIN approvals
    ON approvals.session_id = described.session_id AND approvals.approval_request_id = described.item_id
  WHERE described.item_type = 'mcp_approval_request'
),
calls AS (
  SELECT
    session_id, item_id,
    coalesce(described.item_type, steps.item_type) AS item_type,
    described.server_label,
    described.name,
    coalesce(steps.arguments, described.arguments, steps.streamed) AS arguments,
    described.output,
    described.tool_count,
    coalesce(described.response_id, steps.response_id) AS response_id,
    coalesce(described.error, steps.error) AS error,
    coalesce(steps.failed, false) OR described.error IS NOT NULL AS failed,
    least(described.position, steps.position) AS position,
    coalesce(steps.started_at_ns, least(described.at_ns, steps.at_ns)) AS started_at_ns,
    coalesce(steps.end_position, described.done_position) AS end_position,
    CASE WHEN steps.end_position IS NOT NULL THEN steps.end_at_ns ELSE described.done_at_ns END AS end_at_ns,
    CASE WHEN described.item_type = 'mcp_approval_request' THEN item_id ELSE described.approval_request_id END
      AS approval_request_id
  FROM described
  FULL JOIN steps USING (session_id, item_id)
),
-- A request for approval that a call names is a part of that call.
counted AS (
  SELECT calls.*
  FROM calls
  ANTI JOIN (FROM calls WHERE item_type = 'mcp_call' AND approval_request_id IS NOT NULL) AS approved
    ON approved.session_id = calls.session_id AND approved.approval_request_id = calls.item_id
)
SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY counted.position, counted.item_id) AS mcp_call_no,
  CASE counted.item_type
    WHEN 'mcp_list_tools' THEN 'list_tools' WHEN 'mcp_approval_request' THEN 'approval' ELSE 'call' END AS kind,
  counted.server_label,
  counted.name,
  counted.item_id,
  counted.response_id,
  counted.arguments,
  counted.output,
  CASE WHEN NOT starts_with(counted.output, 'hashed:sha256:') THEN octet_length(encode(counted.output)) END
    AS output_bytes,
  counted.tool_count,
  CASE
    WHEN counted.item_type = 'mcp_approval_request' THEN CASE
      WHEN requests.approve THEN 'approved' WHEN NOT requests.approve THEN 'denied'
      WHEN session_spans.ended THEN 'dangling' ELSE 'in_progress' END
    WHEN counted.failed THEN 'failed'
    WHEN counted.end_position IS NOT NULL THEN 'completed'
    WHEN session_spans.ended THEN 'dangling'
    ELSE 'in_progress'
  END AS status,
  coalesce(counted.error ->> '$.type', CASE WHEN json_type(counted.error) = 'VARCHAR' THEN counted.error ->> '$' END)
    AS error_type,
  counted.error ->> '$.code' AS error_code,
  counted.error ->> '$.message' AS error_message,
  CASE WHEN counted.item_type <> 'mcp_approval_request' THEN counted.started_at_ns END AS started_at_ns,
  CASE WHEN counted.item_type <> 'mcp_approval_request' THEN counted.end_at_ns END AS end_at_ns,
  CASE WHEN counted.item_type <> 'mcp_approval_request' AND counted.end_at_ns >= counted.started_at_ns
    THEN (counted.end_at_ns - counted.started_at_ns) / 1e9 END AS duration_seconds,
  counted.approval_request_id,
  requests.approve AS approved,
  requests.wait_seconds AS approval_wait_seconds,
  counted.position,
  CASE WHEN counted.item_type <> 'mcp_approval_request' THEN counted.end_position END AS end_position,
  requests.position AS approval_request_position,
  requests.answer_position AS approval_response_position
FROM counted
JOIN session_spans USING (session_id)
LEFT JOIN requests
  ON requests.session_id = counted.session_id AND requests.item_id = counted.approval_request_id
