-- The server as a listener that plays the client's audio as it comes: where all that was sent has been played out, the
-- next append comes too late. (As in the playback model: each growth of arrival − audio before it is such a wait.)
WITH appends AS (
  SELECT session_id, position, at_ns, audio_ms, at_ns - CAST((end_ms - audio_ms) * 1e6 AS BIGINT) AS lag_ns
  FROM input_audio
  WHERE is_append
),
waits AS (
  SELECT
    *,
    lag_ns - max(lag_ns) OVER (
      PARTITION BY session_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS wait_ns
  FROM appends
),
merged AS (
  SELECT
    session_id,
    count(*) AS append_count,
    sum(audio_ms) AS audio_ms,
    min(position) AS first_append_position,
    max(position) AS last_append_position,
    sum(audio_ms) - arg_max(audio_ms, position) AS paced_ms,
    (max(at_ns) - min(at_ns)) / 1e6 AS span_ms,
    count(*) FILTER (wait_ns >= 5e8) AS gap_count,
    coalesce(sum(wait_ns) FILTER (wait_ns >= 5e8), 0) / 1e6 AS gap_ms,
    max(wait_ns) FILTER (wait_ns >= 5e8) / 1e6 AS longest_gap_ms,
    arg_max(position, wait_ns) FILTER (wait_ns >= 5e8) AS longest_gap_position
  FROM waits
  GROUP BY session_id
)
SELECT
  session_id,
  append_count,
  audio_ms / 1e3 AS audio_seconds,
  span_ms / 1e3 AS span_seconds,
  CASE WHEN span_ms > 0 THEN paced_ms / span_ms END AS pace,
  CASE WHEN span_ms - gap_ms > 0 THEN paced_ms / (span_ms - gap_ms) END AS pace_without_gaps,
  CASE WHEN span_ms IS NOT NULL THEN gap_count END AS gap_count,
  CASE WHEN span_ms IS NOT NULL THEN gap_ms / 1e3 END AS gap_seconds,
  longest_gap_ms / 1e3 AS longest_gap_seconds,
  longest_gap_position,
  first_append_position,
  last_append_position
FROM merged
