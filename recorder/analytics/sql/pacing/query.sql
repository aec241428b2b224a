-- The server as a listener that plays the client's audio as it comes: where all that was sent has been played out, the
-- next append comes too late. (As in the playback model: each growth of arrival − audio before it is such a wait.)
WITH appends AS (
  SELECT session_id, position, at_ns, audio_ms, at_ns - CAST((end_ms - audio_ms) * 1e6 AS BIGINT) AS lag_ns
  FROM input_audio
  WHERE is_append
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
    max(lag_ns) - arg_min(lag_ns, position) AS grown_ns
  FROM appends
  GROUP BY session_id
),
-- Most clients stream without a gap: they need no second look.
waits AS (
  SELECT
    appends.session_id, appends.position,
    appends.lag_ns - max(appends.lag_ns) OVER (
      PARTITION BY appends.session_id ORDER BY appends.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS wait_ns
  FROM appends
  SEMI JOIN (FROM merged WHERE grown_ns >= 5e8) AS grown ON grown.session_id = appends.session_id
),
gaps AS (
  SELECT
    session_id,
    count(*) AS gap_count,
    sum(wait_ns) / 1e6 AS gap_ms,
    max(wait_ns) / 1e6 AS longest_gap_ms,
    arg_max(position, wait_ns) AS longest_gap_position
  FROM waits
  WHERE wait_ns >= 5e8
  GROUP BY session_id
),
summed AS (
  SELECT merged.*, coalesce(gaps.gap_count, 0) AS gap_count, coalesce(gaps.gap_ms, 0) AS gap_ms,
    gaps.longest_gap_ms, gaps.longest_gap_position
  FROM merged
  LEFT JOIN gaps ON gaps.session_id = merged.session_id
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
FROM summed
