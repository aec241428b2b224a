WITH calls AS (
  SELECT
    item_facts.session_id, item_facts.item_id, item_facts.response_id,
    item_facts.call_id, item_facts.name, item_facts.status,
    item_facts.first_position, item_facts.first_at_ns
  FROM item_facts
  WHERE item_facts.type = 'function_call'
),
argument_events AS (
  SELECT
    session_id, item_id,
    min(at_ns) FILTER (type LIKE '%.delta') AS first_delta_at_ns,
    min(at_ns) FILTER (type LIKE '%.done') AS done_at_ns,
    min(position) FILTER (type LIKE '%.done') AS done_position,
    arg_min(body ->> '$.arguments', position) FILTER (type LIKE '%.done') AS arguments,
    any_value(body ->> '$.name') AS name,
    any_value(call_id) AS call_id,
    string_agg(body ->> '$.delta', '' ORDER BY position) FILTER (type LIKE '%.delta') AS streamed
  FROM wire_events
  WHERE direction = 'server' AND item_id IS NOT NULL
    AND type IN ('response.function_call_arguments.delta', 'response.function_call_arguments.done')
  GROUP BY session_id, item_id
),
item_dones AS (
  SELECT
    session_id, item_id, min(position) AS position, min(at_ns) AS at_ns,
    arg_min(body ->> '$.item.arguments', position) AS arguments
  FROM wire_events
  WHERE direction = 'server' AND type IN ('conversation.item.done', 'response.output_item.done')
    AND item_id IS NOT NULL AND body ->> '$.item.status' = 'completed'
  GROUP BY session_id, item_id
),
-- The client's answer; on a sideband connection that only watches, the server's echo of it.
outputs AS (
  SELECT
    wire_events.session_id, wire_events.call_id,
    arg_min(wire_events.position, (wire_events.direction = 'server', wire_events.position)) AS position,
    arg_min(wire_events.at_ns, (wire_events.direction = 'server', wire_events.position)) AS at_ns,
    arg_min(wire_events.body ->> '$.item.output', (wire_events.direction = 'server', wire_events.position)) AS output
  FROM wire_events
  ANTI JOIN rejections
    ON rejections.session_id = wire_events.session_id AND rejections.position = wire_events.position
  WHERE wire_events.call_id IS NOT NULL
    AND ((wire_events.direction = 'client' AND wire_events.type = 'conversation.item.create')
      OR (wire_events.direction = 'server' AND wire_events.type IN (
        'conversation.item.added', 'conversation.item.created')))
    AND wire_events.body ->> '$.item.type' = 'function_call_output'
  GROUP BY wire_events.session_id, wire_events.call_id
),
merged AS (
  SELECT
    calls.session_id, calls.item_id, calls.response_id, calls.first_position,
    coalesce(calls.call_id, argument_events.call_id) AS call_id,
    coalesce(calls.name, argument_events.name) AS name,
    coalesce(argument_events.arguments, item_dones.arguments, argument_events.streamed) AS arguments,
    coalesce(argument_events.first_delta_at_ns, calls.first_at_ns) AS started_at_ns,
    coalesce(argument_events.done_at_ns, item_dones.at_ns) AS arguments_done_at_ns,
    coalesce(argument_events.done_position, item_dones.position) AS arguments_done_position
  FROM calls
  LEFT JOIN argument_events USING (session_id, item_id)
  LEFT JOIN item_dones USING (session_id, item_id)
),
answered AS (
  SELECT merged.*, outputs.output, outputs.position AS output_position, outputs.at_ns AS output_at_ns
  FROM merged
  LEFT JOIN outputs ON outputs.session_id = merged.session_id AND outputs.call_id = merged.call_id
),
resumed AS (
  SELECT answered.*, responses.first_token_at_ns, responses.first_token_position
  FROM answered
  ASOF LEFT JOIN (FROM responses WHERE created_position IS NOT NULL AND NOT out_of_band) AS responses
    ON responses.session_id = answered.session_id AND responses.created_position > answered.output_position
)
SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY first_position) AS tool_call_no,
  call_id,
  name,
  item_id,
  response_id,
  arguments,
  CASE WHEN arguments_done_position IS NOT NULL AND NOT coalesce(starts_with(arguments, 'hashed:sha256:'), false)
    THEN coalesce(json_valid(arguments), false) END AS arguments_valid,
  output,
  CASE WHEN NOT starts_with(output, 'hashed:sha256:') THEN octet_length(encode(output)) END AS output_bytes,
  started_at_ns,
  arguments_done_at_ns,
  output_at_ns,
  (arguments_done_at_ns - started_at_ns) / 1e9 AS arguments_seconds,
  (output_at_ns - arguments_done_at_ns) / 1e9 AS execution_seconds,
  (first_token_at_ns - output_at_ns) / 1e9 AS resume_seconds,
  output_position IS NULL AND arguments_done_position IS NOT NULL AS unanswered,
  first_position AS position,
  arguments_done_position,
  output_position,
  first_token_position AS resume_position
FROM resumed
