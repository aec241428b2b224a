SELECT
  $select
  count(*) AS n,
  count(DISTINCT errors.session_id) AS sessions,
  count(CASE WHEN errors.cause_confidence = 'exact' THEN 1 END) AS cause_exact,
  count(CASE WHEN errors.cause_confidence = 'inferred' THEN 1 END) AS cause_inferred
FROM stored.errors AS errors
JOIN chosen ON chosen.session_id = errors.session_id
$group
