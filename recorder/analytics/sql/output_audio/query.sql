-- The playback model: a client that starts playing a response at its first audio delta and plays in real time. With
-- c(i) the audio before delta i, playing of delta i starts at c(i) + max over j ≤ i of (arrival(j) − c(j)); each growth of
-- that maximum is a moment at which the buffer had run empty.
WITH deltas AS (
  SELECT
    session_id, response_no, item_id, position, at_ns, audio_ms,
    CAST(round(audio_ms * 1e6) AS BIGINT) AS audio_ns,
    CAST(coalesce(sum(CAST(round(audio_ms * 1e6) AS BIGINT)) OVER (
      PARTITION BY session_id, response_no ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS BIGINT) AS before_ns
  FROM response_events
  WHERE type = 'response.output_audio.delta' AND audio_ms > 0
),
played AS (
  SELECT
    *,
    max(at_ns - before_ns) OVER so_far AS offset_ns,
    max(at_ns - before_ns) OVER (so_far ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier_offset_ns
  FROM deltas
  WINDOW so_far AS (PARTITION BY session_id, response_no ORDER BY position)
)
SELECT
  session_id, response_no, item_id, position, at_ns, audio_ms,
  offset_ns + before_ns AS play_start_ns,
  offset_ns + before_ns + audio_ns AS play_end_ns,
  offset_ns - earlier_offset_ns AS empty_ns
FROM played
