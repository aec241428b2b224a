"""Drift: what a store holds that the vocabulary does not know, as a view that any query and rule can read."""

from __future__ import annotations

from typing import Final

from recorder.protocol.event_types import OBJECT_FIELDS

_INNER: Final = "".join(
    f", list_transform(json_keys(body, '$.{name}'), lambda key: '{name}.' || key)" for name in OBJECT_FIELDS
)

VIEW: Final = f"""
SELECT session_id, position, recorded_at, direction, type, unnest(strange) AS field
FROM (
  SELECT
    * EXCLUDE (body, known),
    CASE WHEN known IS NULL THEN [NULL]
      ELSE list_filter(list_concat(json_keys(body){_INNER}), lambda path: NOT list_contains(known, path)) END AS strange
  FROM (
    SELECT
      events.session_id, events.position, events.recorded_at, events.direction, events.type,
      TRY_CAST(events.payload AS JSON) AS body, event_types.fields AS known
    FROM events
    LEFT JOIN event_types ON event_types.name = events.type AND event_types.family NOT IN ('recorder', 'connection')
    WHERE events.direction <> 'recorder' AND events.type IS NOT NULL AND coalesce(events.opcode, 1) < 8
  )
)
"""  # noqa: S608 - made of names of our own
"""`drift`: one row per message of an unknown type (`field` NULL), and per unknown field of a known one (`field` is its
name, or `item.phase` for one within an object). It reads `events` and `event_types`, so that what the vocabulary learns
is no drift any longer, in old recordings too. Messages without a type and control frames are none."""

SUMMARY: Final = """
SELECT
  drift.direction, drift.type, drift.field,
  count(*) AS event_count,
  count(DISTINCT drift.session_id) AS session_count,
  arg_min(
    {'session_id': drift.session_id, 'position': drift.position, 'recorded_at': drift.recorded_at},
    (coalesce(sessions.opened_at, TIMESTAMPTZ '-infinity'), drift.session_id, drift.position)) AS first_seen,
  arg_max(
    {'session_id': drift.session_id, 'position': drift.position, 'recorded_at': drift.recorded_at},
    (coalesce(sessions.opened_at, TIMESTAMPTZ '-infinity'), drift.session_id, drift.position)) AS last_seen
FROM drift
LEFT JOIN sessions ON sessions.session_id = drift.session_id
WHERE $1 IS NULL OR sessions.opened_at >= $1
GROUP BY drift.direction, drift.type, drift.field
ORDER BY drift.field IS NOT NULL, event_count DESC, drift.type, drift.field, drift.direction
"""
"""What drifted, unknown events first, the most frequent first. `$1`: only sessions opened then or later, or NULL for
all; sessions without times count as the oldest."""
