-- Client messages that an `error` answered: named by it, or of the kind that it speaks of. What is only likely by order
-- is not taken for refused.
SELECT session_id, cause_position AS position, any_value(cause_type) AS type, min(position) AS error_position
FROM error_causes
WHERE specific
GROUP BY session_id, cause_position
