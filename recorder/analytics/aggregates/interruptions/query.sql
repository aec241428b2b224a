WITH answers AS (
  SELECT session_id, response_id, min(model) AS model
  FROM stored.responses
  WHERE response_id IS NOT NULL
  GROUP BY session_id, response_id
),
facts AS (
  SELECT
    session_id, model, 1 AS spoken, CAST(NULL AS STRING) AS source, CAST(NULL AS STRING) AS interrupted,
    CAST(NULL AS BOOLEAN) AS false_barge_in, CAST(NULL AS DOUBLE) AS reaction_seconds,
    CAST(NULL AS DOUBLE) AS stop_seconds, CAST(NULL AS DOUBLE) AS unheard_ms,
    CAST(NULL AS DECIMAL(24, 12)) AS wasted_cost_usd, CAST(NULL AS STRING) AS truncate_status
  FROM stored.responses
  WHERE NOT out_of_band AND audio_ms > 0
  UNION ALL
  SELECT
    cut.session_id, answers.model, 0, cut.source,
    concat(cut.session_id, '/', coalesce(cut.response_id, cut.item_id, CAST(cut.position AS STRING))),
    cut.false_barge_in, cut.reaction_seconds, cut.stop_seconds,
    -- An item that was cut twice was wasted once.
    CASE WHEN row_number() OVER (PARTITION BY cut.session_id, cut.item_id ORDER BY cut.position) = 1
      THEN cut.unheard_ms END,
    CASE WHEN row_number() OVER (PARTITION BY cut.session_id, cut.item_id ORDER BY cut.position) = 1
      THEN cut.wasted_cost_usd END,
    cut.truncate_status
  FROM interruptions AS cut
  LEFT JOIN answers ON answers.session_id = cut.session_id AND answers.response_id = cut.response_id
  WHERE cut.out_of_band IS NULL OR NOT cut.out_of_band
)
SELECT
  $select
  CAST(sum(facts.spoken) AS BIGINT) AS spoken,
  count(facts.interrupted) AS n,
  count(DISTINCT facts.interrupted) AS interrupted,
  count(DISTINCT facts.interrupted) / CAST(nullif(sum(facts.spoken), 0) AS DOUBLE) AS interruption_ratio,
  count(CASE WHEN facts.false_barge_in THEN 1 END) AS false_barge_ins,
  count(CASE WHEN facts.false_barge_in THEN 1 END) / CAST(nullif(count(facts.false_barge_in), 0) AS DOUBLE)
    AS false_barge_in_ratio,
  count(facts.reaction_seconds) AS reaction_n,
  $p50(facts.reaction_seconds) AS reaction_p50_seconds,
  $p95(facts.reaction_seconds) AS reaction_p95_seconds,
  count(facts.stop_seconds) AS stop_n,
  $p50(facts.stop_seconds) AS stop_p50_seconds,
  $p95(facts.stop_seconds) AS stop_p95_seconds,
  sum(facts.unheard_ms) / 1000 AS unheard_seconds,
  sum(facts.wasted_cost_usd) AS wasted_cost_usd,
  count(CASE WHEN facts.truncate_status = 'missing' THEN 1 END) AS truncates_missing,
  count(CASE WHEN facts.truncate_status IN ('beyond_audio', 'rejected', 'late') THEN 1 END) AS truncates_wrong,
  count(CASE WHEN facts.truncate_status IN ('missing', 'beyond_audio', 'rejected', 'late') THEN 1 END)
    / CAST(nullif(count(facts.truncate_status), 0) AS DOUBLE) AS truncate_fault_ratio
FROM facts
JOIN chosen ON chosen.session_id = facts.session_id
$group
