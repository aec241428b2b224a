SELECT
  $select
  count(limits.remaining_ratio) AS n,
  count(DISTINCT limits.session_id) AS sessions,
  min(limits.remaining_ratio) AS lowest_ratio,
  $p50(limits.remaining_ratio) AS ratio_p50,
  count(CASE WHEN limits.remaining_ratio < 0.1 THEN 1 END) AS below_tenth,
  max(limits.limit_value) AS largest_limit,
  min(limits.remaining_value) AS least_remaining
FROM stored.rate_limits AS limits
JOIN chosen ON chosen.session_id = limits.session_id
$group
