WITH cuts AS (
  SELECT session_id, response_no, position, at_ns FROM barge_ins WHERE cuts
),
-- What a sideband connection is told of the playing; it stands for the model where the audio itself is elsewhere.
buffers AS (
  SELECT
    session_id, response_no,
    min(at_ns) FILTER (type = 'output_audio_buffer.started') AS started_at_ns,
    min(at_ns) FILTER (type <> 'output_audio_buffer.started') AS ended_at_ns
  FROM response_events
  WHERE type IN ('output_audio_buffer.started', 'output_audio_buffer.stopped', 'output_audio_buffer.cleared')
  GROUP BY session_id, response_no
),
shown AS (
  SELECT
    item_facts.session_id,
    arg_max(item_facts.item_id, item_facts.first_position) AS item_id,
    any_value(coalesce(buffers.ended_at_ns, session_spans.end_at_ns) - buffers.started_at_ns) / 1e6 AS played_ms
  FROM buffers
  JOIN item_facts
    ON item_facts.session_id = buffers.session_id AND item_facts.response_no = buffers.response_no
    AND item_facts.type = 'message'
  JOIN session_spans ON session_spans.session_id = buffers.session_id
  WHERE buffers.started_at_ns IS NOT NULL
  GROUP BY item_facts.session_id, item_facts.response_no
),
audio AS (
  SELECT
    output_audio.session_id, output_audio.item_id,
    sum(output_audio.audio_ms) AS generated_ms,
    coalesce(
      sum(output_audio.audio_ms) FILTER (cuts.position IS NULL OR output_audio.position < cuts.position), 0
    ) AS delivered_ms,
    sum(CASE
      WHEN coalesce(cuts.at_ns, session_spans.end_at_ns) <= output_audio.play_start_ns THEN 0
      WHEN coalesce(cuts.at_ns, session_spans.end_at_ns) < output_audio.play_end_ns
        THEN (coalesce(cuts.at_ns, session_spans.end_at_ns) - output_audio.play_start_ns) / 1e6
      WHEN output_audio.play_end_ns IS NOT NULL THEN output_audio.audio_ms
    END) AS played_ms
  FROM output_audio
  JOIN session_spans ON session_spans.session_id = output_audio.session_id
  LEFT JOIN cuts ON cuts.session_id = output_audio.session_id AND cuts.response_no = output_audio.response_no
  WHERE output_audio.item_id IS NOT NULL
  GROUP BY output_audio.session_id, output_audio.item_id
),
shortened AS (
  SELECT
    session_id, item_id,
    arg_max(audio_end_ms, position) AS audio_end_ms,
    arg_max(coalesce(answer_position, position), position) AS position
  FROM truncations
  WHERE NOT rejected AND item_id IS NOT NULL
  GROUP BY session_id, item_id
)
SELECT
  item_facts.session_id,
  item_facts.item_id,
  item_order.item_no,
  item_facts.previous_item_id,
  item_facts.role,
  item_facts.type,
  item_facts.status,
  item_facts.text,
  item_facts.response_id,
  coalesce(response_triggers.out_of_band, false) AS out_of_band,
  item_facts.created_by,
  item_facts.created_position,
  item_facts.done_position,
  item_facts.deleted_position,
  shortened.position AS truncated_position,
  shortened.audio_end_ms,
  audio.generated_ms,
  audio.delivered_ms,
  -- Where the audio itself is elsewhere, a truncation is believed up to a day.
  CASE WHEN shortened.audio_end_ms > 86400000 AND audio.generated_ms IS NULL THEN NULL
    WHEN shortened.audio_end_ms IS NOT NULL THEN greatest(least(shortened.audio_end_ms, audio.generated_ms), 0)
    WHEN shown.played_ms IS NOT NULL THEN least(shown.played_ms, audio.generated_ms)
    ELSE audio.played_ms END AS heard_ms,
  CASE WHEN audio.generated_ms IS NOT NULL OR shown.played_ms IS NOT NULL OR shortened.audio_end_ms IS NOT NULL
    THEN shortened.audio_end_ms IS NULL END AS heard_estimated,
  item_facts.call_id,
  item_facts.name
FROM item_facts
JOIN item_order ON item_order.session_id = item_facts.session_id AND item_order.item_key = item_facts.item_key
LEFT JOIN response_triggers
  ON response_triggers.session_id = item_facts.session_id AND response_triggers.response_no = item_facts.response_no
LEFT JOIN audio ON audio.session_id = item_facts.session_id AND audio.item_id = item_facts.item_id
LEFT JOIN shown ON shown.session_id = item_facts.session_id AND shown.item_id = item_facts.item_id
LEFT JOIN shortened ON shortened.session_id = item_facts.session_id AND shortened.item_id = item_facts.item_id
