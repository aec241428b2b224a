WITH met AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY session_id ORDER BY position) AS interruption_no,
    lead(position) OVER (PARTITION BY session_id, response_no ORDER BY position) AS next_position
  FROM barge_ins
  WHERE is_interruption
),
-- A truncate is an answer to the speech start also when it comes after all would have been played.
actions AS (
  SELECT met.session_id, met.position, barge_ins.position AS action_position, barge_ins.at_ns
  FROM met
  JOIN (FROM barge_ins WHERE is_action) AS barge_ins
    ON barge_ins.session_id = met.session_id AND barge_ins.response_no = met.response_no
  WHERE barge_ins.position > met.position AND (met.next_position IS NULL OR barge_ins.position < met.next_position)
  UNION ALL
  SELECT met.session_id, met.position, truncations.position AS action_position, truncations.at_ns
  FROM met
  JOIN (FROM truncations WHERE asked) AS truncations
    ON truncations.session_id = met.session_id AND truncations.item_id = met.item_id
  WHERE truncations.position > met.position AND (met.next_position IS NULL OR truncations.position < met.next_position)
),
reactions AS (
  SELECT session_id, position, min(action_position) AS reaction_position, min(at_ns) AS reaction_at_ns
  FROM actions
  GROUP BY session_id, position
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
-- The tail of the text, pro rata by characters; a word that had begun counts as heard. Not all scripts have spaces: where
-- the text has none, or none for 30 characters, it is cut where it is.
parted AS (
  SELECT
    *,
    CASE WHEN generated_ms > 0 AND NOT starts_with(item_text, 'hashed:sha256:')
      THEN CAST(round_even(length(item_text) * heard_ms / generated_ms, 0) AS BIGINT) END AS heard_length,
    item_text[heard_length + 1:] AS tail,
    regexp_extract(tail, '^[^\s\p{Z}]*') AS word,
    CASE WHEN heard_length > 0 AND length(word) <= 30 AND regexp_matches(item_text, '[\s\p{Z}]')
      THEN tail[length(word) + 1:] ELSE tail END AS unheard_text
  FROM measured
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
  parted.session_id,
  parted.interruption_no,
  parted.response_id,
  parted.item_id,
  parted.position,
  parted.at_ns,
  CASE WHEN parted.is_action THEN 'client' ELSE 'server_vad' END AS source,
  parted.out_of_band,
  parted.generated_ms,
  CASE WHEN parted.generated_ms IS NOT NULL THEN coalesce(delivered.delivered_ms, 0) END AS delivered_ms,
  parted.heard_ms,
  parted.heard_estimated,
  CASE WHEN parted.heard_ms IS NOT NULL AND parted.generated_ms IS NOT NULL
    THEN parted.raw_unheard_ms END AS unheard_ms,
  nullif(trim(parted.unheard_text), '') AS unheard_text,
  parted.reaction_position,
  CASE WHEN NOT parted.is_action THEN (parted.reaction_at_ns - parted.at_ns) / 1e9 END AS reaction_seconds,
  CASE WHEN NOT parted.is_action AND parted.done_position > parted.position
    THEN (parted.done_at_ns - parted.at_ns) / 1e9 END AS stop_seconds,
  CASE
    WHEN parted.truncation.asked AND parted.truncation.asked_end_ms > parted.generated_ms THEN 'beyond_audio'
    WHEN parted.truncation.asked AND parted.truncation.rejected THEN 'rejected'
    WHEN parted.truncation.asked AND parted.truncation.at_ns - parted.at_ns > 1e9 THEN 'late'
    WHEN parted.truncation.asked THEN 'ok'
    WHEN parted.truncation.asked = false THEN 'server_truncated'
    WHEN parted.heard_ms IS NULL OR parted.generated_ms IS NULL THEN NULL
    WHEN parted.raw_unheard_ms < 1 THEN 'not_needed'
    ELSE 'missing'
  END AS truncate_status,
  parted.truncation.position AS truncate_position,
  CASE
    WHEN parted.is_action THEN NULL
    WHEN parted.stop_position IS NULL THEN false
    WHEN parted.committed_position IS NULL THEN true
    WHEN NOT starts_with(parted.spoken_text, 'hashed:sha256:')
      THEN NOT regexp_matches(parted.spoken_text, '[\p{L}\p{N}]')
  END AS false_barge_in
FROM parted
LEFT JOIN delivered ON delivered.session_id = parted.session_id AND delivered.position = parted.position
