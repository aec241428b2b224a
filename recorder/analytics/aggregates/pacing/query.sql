SELECT
  $select
  count(*) AS n,
  count(pacing.pace) AS pace_n,
  $p50(pacing.pace) AS pace_p50,
  count(CASE WHEN pacing.pace_without_gaps < 0.9 OR pacing.pace_without_gaps > 1.1 THEN 1 END) AS off_pace,
  count(CASE WHEN pacing.pace_without_gaps < 0.9 OR pacing.pace_without_gaps > 1.1 THEN 1 END)
    / CAST(nullif(count(pacing.pace_without_gaps), 0) AS DOUBLE) AS off_pace_ratio,
  CAST(sum(pacing.gap_count) AS BIGINT) AS gaps,
  sum(pacing.gap_seconds) AS gap_seconds,
  max(pacing.longest_gap_seconds) AS longest_gap_seconds,
  sum(pacing.audio_seconds) / 60 AS audio_minutes
FROM stored.pacing AS pacing
JOIN chosen ON chosen.session_id = pacing.session_id
$group
