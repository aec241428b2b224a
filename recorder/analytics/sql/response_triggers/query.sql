-- What caused each response. Causes and responses are walked in groups: a run of causes, then the run of responses that
-- follows it. Within a group they pair first come, first served. Responses left over take what the group before left
-- unused. A VAD commit that more causes than responses followed made no response: it gives way to the others.
WITH creates AS (
  SELECT
    wire_events.session_id, wire_events.position, wire_events.at_ns,
    coalesce(wire_events.body ->> '$.response.conversation' = 'none', false) AS out_of_band
  FROM wire_events
  ANTI JOIN rejections
    ON rejections.session_id = wire_events.session_id AND rejections.position = wire_events.position
  WHERE wire_events.direction = 'client' AND wire_events.type = 'response.create'
),
server_causes AS (
  SELECT
    commits.session_id, commits.position, commits.cause,
    coalesce(commits.cause_position, commits.position) AS trigger_position
  FROM commits
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = commits.session_id AND session_configs.position < commits.position
  WHERE commits.cause = 'idle_timeout'
    OR (commits.cause = 'vad' AND coalesce(session_configs.creates_responses, true))
),
starts AS (
  SELECT
    response_events.session_id, response_events.response_no, min(response_events.position) AS position,
    bool_or(json_type(wire_events.body, '$.response.conversation_id') = 'NULL'
      OR wire_events.body ->> '$.response.conversation' = 'none') AS says_no_conversation
  FROM response_events
  LEFT JOIN wire_events
    ON wire_events.session_id = response_events.session_id AND wire_events.position = response_events.position
    AND wire_events.type IN ('response.created', 'response.done')
  WHERE response_events.type LIKE 'response.%'
  GROUP BY response_events.session_id, response_events.response_no
),
-- Where a session both asks for out-of-band responses and marks them as such, they pair among themselves.
split_sessions AS (
  SELECT session_id FROM creates WHERE out_of_band
  INTERSECT
  SELECT session_id FROM starts WHERE says_no_conversation
),
steps AS (
  SELECT session_id, position, position AS trigger_position, 'client' AS cause, out_of_band, NULL AS response_no
  FROM creates
  UNION ALL
  SELECT session_id, position, trigger_position, cause, false, NULL FROM server_causes
  UNION ALL
  SELECT session_id, position, NULL, NULL, coalesce(says_no_conversation, false), response_no FROM starts
),
queued AS (
  SELECT
    steps.*,
    steps.out_of_band AND split_sessions.session_id IS NOT NULL AS queue,
    steps.response_no IS NOT NULL AS is_response
  FROM steps
  LEFT JOIN split_sessions ON split_sessions.session_id = steps.session_id
),
marked AS (
  SELECT
    *,
    NOT is_response AND coalesce(lag(is_response) OVER (PARTITION BY session_id, queue ORDER BY position), true)
      AS opens_group
  FROM queued
),
grouped AS (
  SELECT *, count(*) FILTER (opens_group) OVER (PARTITION BY session_id, queue ORDER BY position) AS group_no
  FROM marked
),
counted AS (
  SELECT
    *,
    count(*) FILTER (NOT is_response) OVER one_group - count(*) FILTER (is_response) OVER one_group AS excess,
    row_number() OVER (
      PARTITION BY session_id, queue, group_no, is_response, cause <> 'client' ORDER BY position) AS kind_no
  FROM grouped
  WINDOW one_group AS (PARTITION BY session_id, queue, group_no)
),
live AS (
  FROM counted WHERE is_response OR cause = 'client' OR kind_no > excess
),
ranked AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY session_id, queue, group_no, is_response ORDER BY position) AS rank,
    count(*) FILTER (NOT is_response) OVER one_group AS cause_count,
    count(*) FILTER (is_response) OVER one_group AS response_count
  FROM live
  WINDOW one_group AS (PARTITION BY session_id, queue, group_no)
),
groups AS (
  SELECT
    session_id, queue, group_no, any_value(cause_count) AS cause_count, any_value(response_count) AS response_count,
    lag(any_value(response_count)) OVER by_group AS previous_response_count,
    greatest(lag(any_value(cause_count)) OVER by_group - lag(any_value(response_count)) OVER by_group, 0) AS left_over
  FROM ranked
  GROUP BY session_id, queue, group_no
  WINDOW by_group AS (PARTITION BY session_id, queue ORDER BY group_no)
),
wanted AS (
  SELECT
    ranked.session_id, ranked.queue, ranked.response_no, ranked.out_of_band AS says_no_conversation,
    least(coalesce(groups.left_over, 0), greatest(groups.response_count - groups.cause_count, 0)) AS taken_over,
    CASE WHEN ranked.rank <= taken_over THEN ranked.group_no - 1 ELSE ranked.group_no END AS cause_group_no,
    CASE WHEN ranked.rank <= taken_over
      THEN groups.previous_response_count + ranked.rank ELSE ranked.rank - taken_over END AS cause_rank
  FROM ranked
  JOIN groups
    ON groups.session_id = ranked.session_id AND groups.queue = ranked.queue AND groups.group_no = ranked.group_no
  WHERE ranked.is_response
)
SELECT
  wanted.session_id,
  wanted.response_no,
  coalesce(causes.cause, 'unknown') AS trigger,
  causes.trigger_position,
  triggers.at_ns AS trigger_at_ns,
  -- Only a response.create can ask for it; what the response says decides where no cause is known.
  CASE WHEN causes.cause IS NULL THEN wanted.says_no_conversation
    ELSE causes.cause = 'client' AND causes.out_of_band END AS out_of_band
FROM wanted
LEFT JOIN ranked AS causes
  ON causes.session_id = wanted.session_id AND causes.queue = wanted.queue AND NOT causes.is_response
  AND causes.group_no = wanted.cause_group_no AND causes.rank = wanted.cause_rank
LEFT JOIN wire_events AS triggers
  ON triggers.session_id = causes.session_id AND triggers.position = causes.trigger_position
