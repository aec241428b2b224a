-- An item's share of the response's audio is the share of its cost.
SELECT
  cut.session_id,
  cut.interruption_no,
  max(parts.output_audio_pusd * cut.unheard_ms / nullif(answers.audio_ms, 0) / 1000000000000) AS wasted_cost_usd
FROM stored.interruptions AS cut
JOIN stored.responses AS answers ON answers.session_id = cut.session_id AND answers.response_id = cut.response_id
JOIN cost_parts AS parts ON parts.session_id = answers.session_id AND parts.response_no = answers.response_no
GROUP BY cut.session_id, cut.interruption_no
