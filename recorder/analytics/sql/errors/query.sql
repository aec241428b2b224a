SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY position) AS error_no,
  position, at_ns, type, code, param, message, cause_event_id, cause_position, cause_type, cause_confidence
FROM error_causes
