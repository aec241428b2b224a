-- An item's share of the response's audio is the share of its cost.
SELECT
  cut.session_id,
  cut.interruption_no,
  any_value(CAST(costs.output_audio_cost_usd AS DOUBLE) * cut.unheard_ms / nullif(answers.audio_ms, 0)) AS wasted_cost_usd
FROM stored.interruptions AS cut
JOIN stored.responses AS answers ON answers.session_id = cut.session_id AND answers.response_id = cut.response_id
JOIN costs ON costs.session_id = answers.session_id AND costs.response_no = answers.response_no
GROUP BY cut.session_id, cut.interruption_no
