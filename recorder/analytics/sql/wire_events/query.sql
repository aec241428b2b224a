-- Everything but the audio appends and the deltas of what is said (they have `input_audio` and `response_events`), under
-- canonical names and with the JSON parsed once.
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
  parsed.direction <> 'recorder' AND parsed.type IS NOT NULL AND event_types.name IS NULL AS is_unknown,
  nullif(parsed.event_id, '') AS event_id,
  -- A look at the text spares most messages, deltas above all, a look into the JSON.
  coalesce(nullif(parsed.response_id, ''), CASE WHEN contains(parsed.payload, '"response"')
    THEN parsed.body ->> '$.response.id' END) AS response_id,
  coalesce(nullif(parsed.item_id, ''), CASE WHEN contains(parsed.payload, '"item"')
    THEN parsed.body ->> '$.item.id' END) AS item_id,
  coalesce(nullif(parsed.call_id, ''), CASE WHEN contains(parsed.payload, '"item"')
    THEN parsed.body ->> '$.item.call_id' END) AS call_id,
  coalesce(nullif(parsed.previous_item_id, ''), CASE WHEN contains(parsed.payload, '"previous_item_id"')
    THEN parsed.body ->> '$.previous_item_id' END) AS previous_item_id,
  parsed.output_index,
  parsed.content_index,
  parsed.audio_ms,
  parsed.opcode,
  parsed.body
FROM (
  SELECT *, TRY_CAST(payload AS JSON) AS body
  FROM other_events
) AS parsed
LEFT JOIN event_types
  ON event_types.name = parsed.type
  AND (event_types.family = 'recorder') = (parsed.direction = 'recorder')
  AND (event_types.family = 'connection') = (coalesce(parsed.opcode, 1) >= 8)
