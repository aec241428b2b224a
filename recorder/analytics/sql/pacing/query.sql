-- The server as a listener that plays the client's audio as it comes: where all that was sent has been played out, the
-- next append comes too late. (As in the playback model: each growth of arrival − audio before it is such a wait.)
WITH merged AS (
  SELECT
    session_id,
    sum(append_count) AS append_count,
    sum(timed_count) AS timed_count,
    sum(audio_ms) AS audio_ms,
    min(first_position) AS first_append_position,
    max(last_position) AS last_append_position,
    min(first_at_ns) AS first_at_ns,
    (max(last_at_ns) - min(first_at_ns)) / 1e6 AS span_ms,
    max(last_at_ns - CAST(before_ms * 1e6 AS BIGINT)) AS most_lag_ns
  FROM input_audio
  WHERE is_audible
  GROUP BY session_id
),
-- Most clients stream without a gap, which the stretches show: no append is later than the last of its stretch, and none
-- has less audio before it than the first.
lagging AS (
  SELECT session_id
  FROM merged
  WHERE most_lag_ns - first_at_ns >= 5e8 OR timed_count < append_count
),
lags AS (
  SELECT
    session_id, position,
    monotonic_ns - CAST(coalesce(sum(audio_ms) OVER (
      PARTITION BY session_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) * 1e6 AS BIGINT) AS lag_ns
  FROM appends
  SEMI JOIN lagging USING (session_id)
  WHERE audio_ms > 0
),
waits AS (
  SELECT
    session_id, position,
    lag_ns - max(lag_ns) OVER (
      PARTITION BY session_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS wait_ns
  FROM lags
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
-- What the last append carries is not yet played when it comes.
paced AS (
  SELECT merged.*, merged.audio_ms - last.audio_ms AS paced_ms
  FROM merged
  JOIN appends AS last
    ON last.session_id = merged.session_id AND last.position = merged.last_append_position
),
summed AS (
  SELECT paced.*, coalesce(gaps.gap_count, 0) AS gap_count, coalesce(gaps.gap_ms, 0) AS gap_ms,
    gaps.longest_gap_ms, gaps.longest_gap_position
  FROM paced
  LEFT JOIN gaps ON gaps.session_id = paced.session_id
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
