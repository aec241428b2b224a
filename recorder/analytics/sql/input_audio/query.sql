-- The millisecond axis of the input audio: it counts every appended millisecond of the session and runs on
-- through `input_audio_buffer.clear`, as the server's audio_start_ms and audio_end_ms do. The server's marks stand
-- between the appends, so that each knows without a search what had been sent by then.
SELECT
  session_id,
  position,
  monotonic_ns AS at_ns,
  direction = 'client' AS is_append,
  type IN ('input_audio_buffer.committed', 'input_audio_buffer.cleared') AS empties,
  CASE WHEN direction = 'client' THEN audio_ms END AS audio_ms,
  sum(CASE WHEN direction = 'client' THEN audio_ms END) OVER (
    PARTITION BY session_id ORDER BY position ROWS UNBOUNDED PRECEDING) AS end_ms
FROM events
WHERE (direction = 'client' AND audio_ms > 0
    AND type IN ('input_audio_buffer.append', 'session.input_audio_buffer.append'))
  OR (direction = 'server' AND type IN (
    'input_audio_buffer.speech_started', 'input_audio_buffer.speech_stopped', 'input_audio_buffer.committed',
    'input_audio_buffer.cleared'))
