-- The place of each item in the conversation. Nearly always that is the order of creation; sessions in which an item
-- was put elsewhere (previous_item_id is not the item before it) are folded insert by insert.
WITH listed AS (
  SELECT
    session_id, item_id, item_key, previous_item_id,
    row_number() OVER in_order AS created_no,
    previous_item_id IS NOT NULL AND previous_item_id IS DISTINCT FROM lag(item_id) OVER in_order AS moves
  FROM item_facts
  WINDOW in_order AS (PARTITION BY session_id ORDER BY created_position, item_key)
),
moving AS (
  SELECT session_id, list([item_key, previous_item_id] ORDER BY created_no) AS inserts
  FROM listed
  GROUP BY session_id
  HAVING bool_or(moves)
),
folded AS (
  SELECT
    session_id,
    list_reduce(
      inserts,
      lambda done, next: CASE
        WHEN next[2] = 'root' THEN [next[1]] || done
        WHEN list_contains(done, next[2])
          THEN done[:list_position(done, next[2])] || [next[1]] || done[list_position(done, next[2]) + 1:]
        ELSE done || [next[1]] END,
      CAST([] AS VARCHAR[])
    ) AS item_keys
  FROM moving
),
placed AS (
  SELECT session_id, unnest(item_keys) AS item_key, unnest(range(1, len(item_keys) + 1)) AS item_no FROM folded
)
SELECT listed.session_id, listed.item_key, coalesce(placed.item_no, listed.created_no) AS item_no
FROM listed
LEFT JOIN placed ON placed.session_id = listed.session_id AND placed.item_key = listed.item_key
