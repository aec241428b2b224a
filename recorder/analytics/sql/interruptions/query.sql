WITH met AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY session_id ORDER BY position) AS interruption_no,
    lead(position) OVER (PARTITION BY session_id, response_no ORDER BY position) AS next_position
  FROM barge_ins
  WHERE is_interruption
),
reactions AS (
  SELECT
    met.session_id, met.position,
    min(barge_ins.position) AS reaction_position, min(barge_ins.at_ns) AS reaction_at_ns
  FROM met
  JOIN (FROM barge_ins WHERE is_action) AS barge_ins
    ON barge_ins.session_id = met.session_id AND barge_ins.response_no = met.response_no
  WHERE barge_ins.position > met.position AND (met.next_position IS NULL OR barge_ins.position < met.next_position)
  GROUP BY met.session_id, met.position
),
-- The truncate that counts: the first accepted one, else the first.
answers AS (
  SELECT
    met.session_id, met.position,
    arg_min(truncations, (NOT truncations.asked, truncations.rejected, truncations.position)) AS truncation
  FROM met
  JOIN truncations ON truncations.session_id = met.session_id AND truncations.item_id = met.item_id
  WHERE truncations.position >= met.position
    AND (met.next_position IS NULL OR truncations.position < met.next_position)
  GROUP BY met.session_id, met.position
),
ends AS (
  SELECT session_id, response_no, min(response_id) AS response_id,
    min(position) FILTER (type = 'response.done') AS done_position,
    min(at_ns) FILTER (type = 'response.done') AS done_at_ns
  FROM response_events
  GROUP BY session_id, response_no
),
spoken AS (
  SELECT
    speech.session_id, speech.start_position, speech.stop_position,
    commits.position AS committed_position, item_facts.text
  FROM speech
  LEFT JOIN commits
    ON commits.session_id = speech.session_id AND commits.cause_position = speech.stop_position
  LEFT JOIN item_facts ON item_facts.session_id = speech.session_id AND item_facts.item_id = commits.item_id
  WHERE speech.start_position IS NOT NULL
),
measured AS (
  SELECT
    met.*,
    ends.response_id,
    items.generated_ms,
    items.heard_ms,
    items.heard_estimated,
    items.out_of_band,
    items.text AS item_text,
    greatest(items.generated_ms - items.heard_ms, 0) AS raw_unheard_ms,
    reactions.reaction_position,
    reactions.reaction_at_ns,
    ends.done_position,
    ends.done_at_ns,
    answers.truncation,
    spoken.stop_position,
    spoken.committed_position,
    spoken.text AS spoken_text
  FROM met
  LEFT JOIN ends ON ends.session_id = met.session_id AND ends.response_no = met.response_no
  LEFT JOIN items ON items.session_id = met.session_id AND items.item_id = met.item_id
  LEFT JOIN reactions ON reactions.session_id = met.session_id AND reactions.position = met.position
  LEFT JOIN answers ON answers.session_id = met.session_id AND answers.position = met.position
  LEFT JOIN spoken ON spoken.session_id = met.session_id AND spoken.start_position = met.position
),
delivered AS (
  SELECT met.session_id, met.position, sum(output_audio.audio_ms) AS delivered_ms
  FROM met
  JOIN output_audio
    ON output_audio.session_id = met.session_id AND output_audio.item_id = met.item_id
  WHERE output_audio.position < met.position
  GROUP BY met.session_id, met.position
)
SELECT
  measured.session_id,
  measured.interruption_no,
  measured.response_id,
  measured.item_id,
  measured.position,
  measured.at_ns,
  CASE WHEN measured.is_action THEN 'client' ELSE 'server_vad' END AS source,
  measured.out_of_band,
  measured.generated_ms,
  CASE WHEN measured.generated_ms IS NOT NULL THEN coalesce(delivered.delivered_ms, 0) END AS delivered_ms,
  measured.heard_ms,
  measured.heard_estimated,
  CASE WHEN measured.heard_ms IS NOT NULL AND measured.generated_ms IS NOT NULL
    THEN measured.raw_unheard_ms END AS unheard_ms,
  CASE WHEN measured.generated_ms > 0 AND measured.heard_ms IS NOT NULL
    AND NOT starts_with(measured.item_text, 'hashed:sha256:') THEN nullif(substr(
    measured.item_text,
    CAST(round(length(measured.item_text) * measured.heard_ms / measured.generated_ms) AS BIGINT) + 1
  ), '') END AS unheard_text,
  measured.reaction_position,
  CASE WHEN NOT measured.is_action THEN (measured.reaction_at_ns - measured.at_ns) / 1e9 END AS reaction_seconds,
  CASE WHEN NOT measured.is_action AND measured.done_position > measured.position
    THEN (measured.done_at_ns - measured.at_ns) / 1e9 END AS stop_seconds,
  CASE
    WHEN measured.truncation.asked AND measured.truncation.asked_end_ms > measured.generated_ms THEN 'beyond_audio'
    WHEN measured.truncation.asked AND measured.truncation.rejected THEN 'rejected'
    WHEN measured.truncation.asked AND measured.truncation.at_ns - measured.at_ns > 1e9 THEN 'late'
    WHEN measured.truncation.asked THEN 'ok'
    WHEN measured.truncation.asked = false THEN 'server_truncated'
    WHEN measured.heard_ms IS NULL OR measured.generated_ms IS NULL THEN NULL
    WHEN measured.raw_unheard_ms < 1 THEN 'not_needed'
    ELSE 'missing'
  END AS truncate_status,
  measured.truncation.position AS truncate_position,
  CASE
    WHEN measured.is_action THEN NULL
    WHEN measured.stop_position IS NULL THEN false
    WHEN measured.committed_position IS NULL THEN true
    WHEN NOT starts_with(measured.spoken_text, 'hashed:sha256:')
      THEN NOT regexp_matches(measured.spoken_text, '[\p{L}\p{N}]')
  END AS false_barge_in
FROM measured
LEFT JOIN delivered ON delivered.session_id = measured.session_id AND delivered.position = measured.position
