-- What the events say of each item, before audio and order.
WITH descriptions AS (
  SELECT
    wire_events.session_id,
    CASE WHEN wire_events.direction = 'client' THEN item_creates.item_id ELSE wire_events.item_id END AS item_id,
    wire_events.position, wire_events.at_ns, wire_events.direction, wire_events.type, wire_events.previous_item_id,
    wire_events.call_id,
    body ->> '$.item.role' AS role,
    body ->> '$.item.type' AS item_type,
    body ->> '$.item.status' AS status,
    body ->> '$.item.name' AS name,
    nullif(array_to_string([
      coalesce(json_extract_string(part, '$.text'), json_extract_string(part, '$.transcript'))
      FOR part IN json_extract(body, '$.item.content[*]')
    ], chr(10)), '') AS content_text,
    list_contains(body ->> '$.item.content[*].type', 'input_audio') AS has_input_audio,
    list_has_any(body ->> '$.item.content[*].type', ['output_audio', 'audio']) AS has_output_audio
  FROM wire_events
  LEFT JOIN item_creates
    ON item_creates.session_id = wire_events.session_id AND item_creates.position = wire_events.position
  WHERE (wire_events.direction = 'server' AND wire_events.item_id IS NOT NULL AND wire_events.type IN (
      'conversation.item.added', 'conversation.item.created', 'conversation.item.done',
      'response.output_item.added', 'response.output_item.done'))
    OR item_creates.position IS NOT NULL
),
described AS (
  SELECT
    session_id, item_id,
    min(position) AS first_position,
    min(at_ns) AS first_at_ns,
    coalesce(min(position) FILTER (direction = 'server'), min(position)) AS created_position,
    coalesce(
      min(position) FILTER (type IN ('conversation.item.done', 'response.output_item.done')),
      min(position) FILTER (direction = 'server' AND status <> 'in_progress'
        AND type IN ('conversation.item.created', 'conversation.item.added'))
    ) AS done_position,
    max(position) AS last_position,
    arg_max(role, position) AS role,
    arg_max(item_type, position) AS item_type,
    arg_max(status, position) AS status,
    arg_max(name, position) AS name,
    arg_max(call_id, position) AS call_id,
    coalesce(
      arg_min(previous_item_id, position) FILTER (previous_item_id = 'root'),
      arg_min(previous_item_id, position) FILTER (direction = 'server'),
      arg_min(previous_item_id, position)
    ) AS previous_item_id,
    arg_max(content_text, position) AS content_text,
    bool_or(has_input_audio) AS has_input_audio,
    bool_or(has_output_audio) AS has_output_audio,
    bool_or(direction = 'client') AS asked_for
  FROM descriptions
  WHERE item_id IS NOT NULL
  GROUP BY session_id, item_id
),
-- Items that only the commit tells of.
committed AS (
  SELECT
    commits.session_id, commits.item_id,
    min(commits.position) AS position, arg_min(commits.at_ns, commits.position) AS at_ns,
    arg_min(commits.cause, commits.position) AS cause,
    arg_min(commits.cause_position, commits.position) AS cause_position,
    arg_min(wire_events.previous_item_id, commits.position) AS previous_item_id
  FROM commits
  JOIN wire_events ON wire_events.session_id = commits.session_id AND wire_events.position = commits.position
  WHERE commits.item_id IS NOT NULL
  GROUP BY commits.session_id, commits.item_id
),
outputs AS (
  SELECT
    session_id, item_id, min(response_no) AS response_no, arg_min(response_id, position) AS response_id,
    min(output_index) AS output_index,
    min(position) AS position, min(at_ns) AS at_ns, max(position) AS last_position,
    min(at_ns) FILTER (is_token) AS first_delta_at_ns,
    max(at_ns) FILTER (is_token) AS last_delta_at_ns,
    CASE
      WHEN bool_or(starts_with(type, 'response.function_call_arguments.')) THEN 'function_call'
      WHEN bool_or(starts_with(type, 'response.mcp_call_arguments.')) THEN 'mcp_call'
      WHEN bool_or(starts_with(type, 'response.output_audio') OR starts_with(type, 'response.output_text'))
        THEN 'message'
    END AS content_of,
    bool_or(starts_with(type, 'response.output_audio')) AS is_spoken
  FROM response_events
  WHERE item_id IS NOT NULL AND type NOT LIKE 'output_audio_buffer.%'
  GROUP BY session_id, item_id
),
-- Items that only their transcription tells of.
transcribed AS (
  SELECT session_id, item_id, min(position) AS position, min(at_ns) AS at_ns, max(position) AS last_position
  FROM wire_events
  WHERE direction = 'server' AND item_id IS NOT NULL AND type IN (
    'conversation.item.input_audio_transcription.delta', 'conversation.item.input_audio_transcription.updated',
    'conversation.item.input_audio_transcription.completed')
  GROUP BY session_id, item_id
),
deletions AS (
  SELECT session_id, item_id, min(position) AS position
  FROM wire_events
  WHERE direction = 'server' AND type = 'conversation.item.deleted' AND item_id IS NOT NULL
  GROUP BY session_id, item_id
),
creates AS (
  SELECT session_id, min(position) AS position
  FROM wire_events
  WHERE direction = 'client' AND type = 'conversation.item.create'
  GROUP BY session_id
),
named AS (
  SELECT session_id, item_id FROM described
  UNION
  SELECT session_id, item_id FROM committed
  UNION
  SELECT session_id, item_id FROM outputs WHERE content_of IS NOT NULL
  UNION
  SELECT session_id, item_id FROM transcribed
)
SELECT
  session_id,
  item_id,
  item_id AS item_key,
  outputs.response_no,
  outputs.response_id,
  outputs.output_index,
  least(described.first_position, committed.position, outputs.position, transcribed.position) AS first_position,
  least(described.first_at_ns, committed.at_ns, outputs.at_ns, transcribed.at_ns) AS first_at_ns,
  least(described.created_position, committed.position, outputs.position, transcribed.position) AS created_position,
  described.done_position,
  deletions.position AS deleted_position,
  greatest(described.last_position, committed.position, outputs.last_position, item_texts.last_position)
    AS last_position,
  outputs.first_delta_at_ns,
  outputs.last_delta_at_ns,
  CASE
    WHEN described.role IS NOT NULL THEN described.role
    WHEN coalesce(described.item_type, outputs.content_of, 'message') <> 'message' THEN NULL
    WHEN committed.position IS NOT NULL THEN 'user'
    WHEN outputs.position IS NOT NULL THEN 'assistant'
    WHEN transcribed.position IS NOT NULL THEN 'user'
  END AS role,
  coalesce(described.item_type, outputs.content_of, 'message') AS type,
  described.status,
  described.name,
  described.call_id,
  coalesce(described.previous_item_id, committed.previous_item_id) AS previous_item_id,
  coalesce(nullif(item_texts.text, ''), described.content_text, item_texts.text) AS text,
  coalesce(described.has_input_audio, false) OR committed.position IS NOT NULL OR transcribed.position IS NOT NULL
    AS has_input_audio,
  coalesce(described.has_output_audio, false) OR coalesce(outputs.is_spoken, false) AS is_spoken,
  committed.position AS committed_position,
  committed.at_ns AS committed_at_ns,
  committed.cause_position AS commit_cause_position,
  CASE
    WHEN outputs.position IS NOT NULL THEN 'response'
    WHEN committed.cause IS NOT NULL THEN committed.cause
    WHEN described.asked_for THEN 'client'
    WHEN creates.position < described.created_position
      AND described.item_type NOT IN ('mcp_list_tools', 'mcp_approval_request') THEN 'client'
    ELSE 'server'
  END AS created_by
FROM named
LEFT JOIN described USING (session_id, item_id)
LEFT JOIN committed USING (session_id, item_id)
LEFT JOIN outputs USING (session_id, item_id)
LEFT JOIN transcribed USING (session_id, item_id)
LEFT JOIN deletions USING (session_id, item_id)
LEFT JOIN item_texts USING (session_id, item_id)
LEFT JOIN creates USING (session_id)
UNION ALL BY NAME
-- Asked for by the client, without an id, and never shown by the server.
SELECT
  session_id, '#' || position AS item_key, position AS first_position, at_ns AS first_at_ns, position AS created_position,
  position AS last_position, role, item_type AS type, name, call_id, previous_item_id, content_text AS text,
  coalesce(has_input_audio, false) AS has_input_audio, coalesce(has_output_audio, false) AS is_spoken,
  'client' AS created_by
FROM descriptions
WHERE item_id IS NULL
