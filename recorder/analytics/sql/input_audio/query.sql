-- The millisecond axis of the input audio: it counts every appended millisecond of the session and runs on
-- through `input_audio_buffer.clear`, as the server's audio_start_ms and audio_end_ms do.
SELECT
  session_id,
  position,
  monotonic_ns AS at_ns,
  audio_ms,
  sum(audio_ms) OVER (PARTITION BY session_id ORDER BY position) AS end_ms
FROM events
WHERE type IN ('input_audio_buffer.append', 'session.input_audio_buffer.append')
  AND direction = 'client'
  AND audio_ms > 0
