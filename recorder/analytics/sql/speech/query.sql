WITH marks AS (
  SELECT
    session_id, position, at_ns, item_id,
    type = 'input_audio_buffer.speech_started' AS is_start,
    TRY_CAST(body ->> '$.audio_start_ms' AS DOUBLE) AS told_start_ms,
    TRY_CAST(body ->> '$.audio_end_ms' AS DOUBLE) AS told_end_ms,
    -- No session lasts a day: what is beyond that, or below 0, cannot be.
    CASE WHEN told_start_ms BETWEEN 0 AND 86400000 THEN told_start_ms END AS audio_start_ms,
    CASE WHEN told_end_ms BETWEEN 0 AND 86400000 THEN told_end_ms END AS audio_end_ms
  FROM wire_events
  WHERE direction = 'server'
    AND type IN ('input_audio_buffer.speech_started', 'input_audio_buffer.speech_stopped')
),
neighbours AS (
  SELECT
    *,
    lead(is_start) OVER in_order AS next_is_start,
    lead(position) OVER in_order AS next_position,
    lead(at_ns) OVER in_order AS next_at_ns,
    lead(item_id) OVER in_order AS next_item_id,
    lead(audio_end_ms) OVER in_order AS next_audio_end_ms,
    coalesce(lag(is_start) OVER in_order, false) AS follows_start
  FROM marks
  WINDOW in_order AS (PARTITION BY session_id ORDER BY position)
),
spans AS (
  SELECT
    session_id, position AS first_position,
    coalesce(item_id, CASE WHEN NOT next_is_start THEN next_item_id END) AS item_id,
    at_ns AS started_at_ns, audio_start_ms, position AS start_position,
    CASE WHEN NOT next_is_start THEN next_at_ns END AS stopped_at_ns,
    CASE WHEN NOT next_is_start THEN next_audio_end_ms END AS audio_end_ms,
    CASE WHEN NOT next_is_start THEN next_position END AS stop_position
  FROM neighbours
  WHERE is_start
  UNION ALL
  SELECT session_id, position, item_id, NULL, NULL, NULL, at_ns, audio_end_ms, position
  FROM neighbours
  WHERE NOT is_start AND NOT follows_start
),
-- The margins that the server adds to a voice, and the audio that it had by then.
margins AS (
  SELECT
    spans.*,
    coalesce(session_configs.prefix_ms, 300) AS prefix_ms,
    coalesce(session_configs.silence_ms, 500) AS silence_ms
  FROM spans
  ASOF LEFT JOIN session_configs
    ON session_configs.session_id = spans.session_id AND session_configs.position < spans.first_position
),
-- Of the many appends few are looked at: the stretches that were the last before a mark, those that carry a millisecond
-- that it tells of, and the ones after these. (Sums of lengths are not whole: what is nearer than a nanosecond is equal.)
beside AS (
  SELECT margins.session_id, stretches.stretch_no
  FROM margins
  ASOF JOIN (FROM input_audio WHERE is_audible) AS stretches
    ON stretches.session_id = margins.session_id
    AND stretches.first_position < coalesce(margins.stop_position, margins.start_position)
  UNION
  SELECT told.session_id, stretches.stretch_no
  FROM (
    SELECT session_id, audio_start_ms + prefix_ms AS ms FROM margins
    UNION ALL
    SELECT session_id, audio_end_ms - silence_ms FROM margins
  ) AS told
  ASOF JOIN (FROM input_audio WHERE is_audible) AS stretches
    ON stretches.session_id = told.session_id AND stretches.end_ms >= told.ms - 1e-6
),
looked_at AS (
  SELECT input_audio.session_id, input_audio.stretch, input_audio.before_ms
  FROM input_audio
  SEMI JOIN (SELECT session_id, stretch_no + unnest([0, 1]) AS stretch_no FROM beside) AS chosen
    ON chosen.session_id = input_audio.session_id AND chosen.stretch_no = input_audio.stretch_no
  WHERE input_audio.is_audible
),
near AS (
  SELECT
    appends.session_id, appends.position, appends.monotonic_ns AS at_ns,
    looked_at.before_ms + sum(appends.audio_ms) OVER (
      PARTITION BY appends.session_id, looked_at.stretch ORDER BY appends.position ROWS UNBOUNDED PRECEDING) AS end_ms
  FROM appends
  JOIN looked_at ON looked_at.session_id = appends.session_id AND looked_at.stretch = appends.position // 16
  WHERE appends.audio_ms > 0
),
bounded AS (
  SELECT margins.*, sent.end_ms AS sent_ms
  FROM margins
  ASOF LEFT JOIN near AS sent
    ON sent.session_id = margins.session_id
    AND sent.position < coalesce(margins.stop_position, margins.start_position)
),
ended AS (
  SELECT
    *,
    CASE WHEN audio_end_ms IS NOT NULL THEN greatest(least(audio_end_ms - silence_ms, sent_ms), 0) END AS voice_end_ms
  FROM bounded
),
voices AS (
  SELECT
    *,
    CASE WHEN audio_start_ms IS NOT NULL
      THEN least(audio_start_ms + prefix_ms, sent_ms, voice_end_ms) END AS voice_start_ms
  FROM ended
),
-- Both ends in one search of the appends: the voice starts in the one that goes past that millisecond, and ends in the
-- one that reaches it.
wanted AS (
  SELECT session_id, first_position, false AS is_end, voice_start_ms + 1e-6 AS ms FROM voices
  UNION ALL
  SELECT session_id, first_position, true, voice_end_ms - 1e-6 FROM voices
),
carried AS (
  SELECT wanted.session_id, wanted.first_position, wanted.is_end, carrier.at_ns, carrier.position
  FROM wanted
  ASOF JOIN near AS carrier
    ON carrier.session_id = wanted.session_id AND carrier.end_ms >= wanted.ms
),
carriers AS (
  SELECT
    session_id, first_position,
    any_value(at_ns) FILTER (NOT is_end) AS voice_start_at_ns,
    any_value(at_ns) FILTER (is_end) AS voice_end_at_ns,
    any_value(position) FILTER (is_end) AS voice_end_position
  FROM carried
  GROUP BY session_id, first_position
)
SELECT
  session_id,
  row_number() OVER (PARTITION BY session_id ORDER BY first_position) AS speech_no,
  voices.item_id,
  voices.started_at_ns,
  voices.stopped_at_ns,
  voices.audio_start_ms,
  voices.audio_end_ms,
  voices.voice_start_ms,
  voices.voice_end_ms,
  carriers.voice_start_at_ns,
  carriers.voice_end_at_ns,
  carriers.voice_end_position,
  voices.start_position,
  voices.stop_position
FROM voices
LEFT JOIN carriers USING (session_id, first_position)
