-- Every speech start and every client action (cancel, truncate, clear) that met a response which the user could hear, by
-- the playback model, or which had begun to speak and was still active. `cuts` marks what stops the playing.
WITH speaking AS (
  SELECT
    response_events.session_id, response_events.response_no,
    min(response_events.position) FILTER (response_events.type = 'response.output_audio.delta') AS audio_position,
    min(response_events.position) FILTER (response_events.type = 'output_audio_buffer.started') AS buffer_start,
    min(response_events.position) FILTER (response_events.type IN (
      'output_audio_buffer.stopped', 'output_audio_buffer.cleared')) AS buffer_end,
    -- A response that never got its response.done is active up to its last sign of life.
    coalesce(
      min(response_events.position) FILTER (response_events.type = 'response.done'),
      max(response_events.position) FILTER (response_events.type LIKE 'response.%')
    ) AS active_until
  FROM response_events
  GROUP BY response_events.session_id, response_events.response_no
),
heard AS (
  SELECT session_id, response_no, max(play_end_ns) AS audible_until_ns
  FROM output_audio
  GROUP BY session_id, response_no
),
-- Without times nobody knows what was audible; a truncate says that the client was still playing.
untimed AS (
  SELECT item_facts.session_id, item_facts.response_no, max(truncations.position) AS audible_until
  FROM truncations
  JOIN item_facts ON item_facts.session_id = truncations.session_id AND item_facts.item_id = truncations.item_id
  WHERE truncations.asked AND truncations.at_ns IS NULL
  GROUP BY item_facts.session_id, item_facts.response_no
),
audible AS (
  SELECT
    speaking.session_id, speaking.response_no, speaking.active_until, speaking.buffer_start, speaking.buffer_end,
    coalesce(speaking.buffer_start, speaking.audio_position) AS begin_position,
    heard.audible_until_ns,
    untimed.audible_until,
    response_triggers.out_of_band
  FROM speaking
  LEFT JOIN heard USING (session_id, response_no)
  LEFT JOIN untimed USING (session_id, response_no)
  JOIN response_triggers USING (session_id, response_no)
  WHERE coalesce(speaking.buffer_start, speaking.audio_position) IS NOT NULL
),
candidates AS (
  SELECT session_id, position, at_ns, type, item_id, response_id, direction = 'client' AS is_action
  FROM wire_events
  WHERE (direction = 'server' AND type = 'input_audio_buffer.speech_started')
    OR (direction = 'client' AND type IN (
      'response.cancel', 'conversation.item.truncate', 'output_audio_buffer.clear'))
),
response_ids AS (
  SELECT DISTINCT session_id, response_id, response_no FROM response_events WHERE response_id IS NOT NULL
),
latest AS (
  SELECT candidates.*, audible.response_no AS latest_response_no
  FROM candidates
  ASOF LEFT JOIN (FROM audible WHERE NOT out_of_band) AS audible
    ON audible.session_id = candidates.session_id AND audible.begin_position < candidates.position
),
aimed AS (
  SELECT
    latest.session_id, latest.position, latest.at_ns, latest.type, latest.is_action,
    CASE WHEN latest.type = 'conversation.item.truncate' THEN latest.item_id END AS item_id,
    coalesce(
      CASE WHEN latest.is_action THEN item_facts.response_no END,
      CASE WHEN latest.is_action THEN response_ids.response_no END,
      latest.latest_response_no
    ) AS response_no
  FROM latest
  LEFT JOIN item_facts ON item_facts.session_id = latest.session_id AND item_facts.item_id = latest.item_id
  LEFT JOIN response_ids
    ON response_ids.session_id = latest.session_id AND response_ids.response_id = latest.response_id
),
configured AS (
  SELECT aimed.*, coalesce(session_configs.interrupts_responses, true) AS interrupts
  FROM aimed
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = aimed.session_id AND session_configs.position < aimed.position
),
met AS (
  SELECT
    configured.*,
    configured.is_action OR configured.interrupts AS cuts,
    count(*) FILTER (configured.is_action OR configured.interrupts) OVER earlier AS earlier_cuts,
    count(*) OVER earlier AS earlier_count
  FROM configured
  JOIN audible
    ON audible.session_id = configured.session_id AND audible.response_no = configured.response_no
  WHERE configured.position > audible.begin_position
    AND CASE
      WHEN audible.buffer_start IS NOT NULL
        THEN audible.buffer_end IS NULL OR configured.position < audible.buffer_end
      ELSE configured.position < audible.active_until
        OR configured.at_ns < audible.audible_until_ns
        OR (configured.at_ns IS NULL AND configured.position <= audible.audible_until)
    END
  WINDOW earlier AS (
    PARTITION BY configured.session_id, configured.response_no ORDER BY configured.position
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
playing AS (
  SELECT met.*, output_audio.item_id AS playing_item_id
  FROM met
  ASOF LEFT JOIN output_audio
    ON output_audio.session_id = met.session_id AND output_audio.response_no = met.response_no
    AND output_audio.play_start_ns <= met.at_ns
),
messages AS (
  SELECT session_id, response_no, arg_max(item_id, first_position) AS item_id
  FROM item_facts
  WHERE response_no IS NOT NULL AND type = 'message'
  GROUP BY session_id, response_no
)
SELECT
  playing.session_id,
  playing.response_no,
  playing.position,
  playing.at_ns,
  playing.is_action,
  playing.cuts AND playing.earlier_cuts = 0 AS cuts,
  playing.earlier_cuts = 0 AND (NOT playing.is_action OR playing.earlier_count = 0) AS is_interruption,
  coalesce(playing.item_id, playing.playing_item_id, messages.item_id) AS item_id
FROM playing
LEFT JOIN messages
  ON messages.session_id = playing.session_id AND messages.response_no = playing.response_no
