-- Appends are most of a call's events: what is asked of all of them is asked of stretches of up to 16, and the single ones
-- are looked up where they matter. The millisecond axis counts every appended millisecond of the session and
-- runs on through `input_audio_buffer.clear`, as the server's audio_start_ms and audio_end_ms do.
WITH stretches AS (
  SELECT
    session_id,
    position // 16 AS stretch,
    coalesce(audio_ms > 0, false) AS is_audible,
    count(*) AS append_count,
    count(monotonic_ns) AS timed_count,
    min(position) AS first_position,
    max(position) AS last_position,
    min(monotonic_ns) AS first_at_ns,
    max(monotonic_ns) AS last_at_ns,
    sum(audio_ms) AS audio_ms
  FROM appends
  GROUP BY ALL
)
SELECT
  *,
  row_number() OVER in_order AS stretch_no,
  coalesce(sum(audio_ms) OVER (in_order ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_ms,
  before_ms + audio_ms AS end_ms
FROM stretches
WINDOW in_order AS (PARTITION BY session_id, is_audible ORDER BY first_position)
