-- Everything but the audio appends (they have `input_audio`), under canonical names and with the JSON parsed once.
-- TRY_CAST: what is no JSON gives a NULL body, never an error. The recorder's own names, and those of control frames, are
-- theirs alone: a message of the wire that carries one has no `type` here.
SELECT
  parsed.session_id,
  parsed.position,
  parsed.direction,
  parsed.monotonic_ns AS at_ns,
  parsed.recorded_at,
  coalesce(
    event_types.canonical,
    CASE WHEN parsed.direction = 'recorder' OR NOT regexp_matches(parsed.type, '^(recorder|websocket)\.')
      THEN parsed.type END
  ) AS type,
  parsed.type AS wire_type,
  event_types.name IS NOT NULL AS known,
  nullif(parsed.event_id, '') AS event_id,
  coalesce(nullif(parsed.response_id, ''), parsed.body ->> '$.response.id') AS response_id,
  coalesce(nullif(parsed.item_id, ''), parsed.body ->> '$.item.id') AS item_id,
  coalesce(nullif(parsed.call_id, ''), parsed.body ->> '$.item.call_id') AS call_id,
  coalesce(nullif(parsed.previous_item_id, ''), parsed.body ->> '$.previous_item_id') AS previous_item_id,
  parsed.output_index,
  parsed.content_index,
  parsed.audio_ms,
  parsed.body
FROM (
  SELECT *, TRY_CAST(payload AS JSON) AS body
  FROM events
  WHERE direction <> 'client' OR type IS NULL OR type NOT IN ('input_audio_buffer.append', 'session.input_audio_buffer.append')
) AS parsed
LEFT JOIN event_types
  ON event_types.name = parsed.type
  AND (event_types.family = 'recorder') = (parsed.direction = 'recorder')
  AND (event_types.family = 'connection') = (coalesce(parsed.opcode, 1) >= 8)
