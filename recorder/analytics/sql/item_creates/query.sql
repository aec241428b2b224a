-- The client's items. One sent without an id is the oldest such of its kind (type, role, call) when the server shows an item
-- of that kind under an id of its own. Some servers show none.
WITH asked AS (
  SELECT
    wire_events.session_id, wire_events.position, nullif(wire_events.item_id, '') AS item_id,
    concat_ws('|', wire_events.body ->> '$.item.type', wire_events.body ->> '$.item.role', wire_events.call_id) AS kind
  FROM wire_events
  ANTI JOIN rejections
    ON rejections.session_id = wire_events.session_id AND rejections.position = wire_events.position
  WHERE wire_events.direction = 'client' AND wire_events.type = 'conversation.item.create'
),
nameless AS (
  FROM asked WHERE item_id IS NULL
),
shown AS (
  SELECT
    session_id, item_id, min(position) AS position,
    arg_min(concat_ws('|', body ->> '$.item.type', body ->> '$.item.role', call_id), position) AS kind
  FROM wire_events
  WHERE direction = 'server' AND item_id IS NOT NULL AND type IN (
    'conversation.item.added', 'conversation.item.created', 'conversation.item.done', 'conversation.item.retrieved')
    AND session_id IN (SELECT session_id FROM nameless)
  GROUP BY session_id, item_id
),
-- Not those whose making is known.
candidates AS (
  SELECT shown.*
  FROM shown
  ANTI JOIN asked ON asked.session_id = shown.session_id AND asked.item_id = shown.item_id
  ANTI JOIN commits ON commits.session_id = shown.session_id AND commits.item_id = shown.item_id
  ANTI JOIN (FROM response_events WHERE item_id IS NOT NULL) AS outputs
    ON outputs.session_id = shown.session_id AND outputs.item_id = shown.item_id
),
steps AS (
  SELECT session_id, kind, position, NULL AS item_id, 1 AS waits FROM nameless
  UNION ALL
  SELECT session_id, kind, position, item_id, -1 FROM candidates
),
queued AS (
  SELECT
    *,
    count(*) FILTER (waits = 1) OVER so_far AS asked_count,
    count(*) FILTER (waits = -1) OVER so_far AS shown_count,
    sum(waits) OVER so_far AS waiting
  FROM steps
  WINDOW so_far AS (PARTITION BY session_id, kind ORDER BY position)
),
-- An item shown while none waits is the server's own; each such is a new low of the balance.
ranked AS (
  SELECT
    *,
    greatest(-min(waiting) OVER so_far, 0) AS own_count,
    shown_count - greatest(-min(waiting) OVER so_far, 0) AS rank
  FROM queued
  WINDOW so_far AS (PARTITION BY session_id, kind ORDER BY position)
),
matched AS (
  SELECT session_id, kind, rank, min_by(item_id, position) AS item_id
  FROM ranked
  WHERE waits = -1 AND rank > 0
  GROUP BY session_id, kind, rank
)
SELECT asked.session_id, asked.position, coalesce(asked.item_id, matched.item_id) AS item_id
FROM asked
LEFT JOIN ranked
  ON ranked.session_id = asked.session_id AND ranked.position = asked.position AND ranked.waits = 1
LEFT JOIN matched
  ON matched.session_id = ranked.session_id AND matched.kind = ranked.kind AND matched.rank = ranked.asked_count
