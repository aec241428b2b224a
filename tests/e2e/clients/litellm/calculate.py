"""LiteLLM's cost of Realtime sessions: cases from stdin as JSON, costs to stdout; null for models it does not know.

`--realtime`: the names of all its models of realtime conversations, instead.
"""

import contextlib
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its own price list, not the net's

import litellm  # type: ignore[import-not-found]  # it has an environment of its own
from litellm.cost_calculator import (  # type: ignore[import-not-found]
    RealtimeAPITokenUsageProcessor,
    handle_realtime_stream_cost_calculation,
)


def cost(model: str, events: list[dict[str, object]]) -> float | None:
    if model not in litellm.model_cost:
        return None
    usage = RealtimeAPITokenUsageProcessor.collect_and_combine_usage_from_realtime_stream_results(events)
    return float(
        handle_realtime_stream_cost_calculation(
            results=events,
            combined_usage_object=usage,
            custom_llm_provider=litellm.model_cost[model]["litellm_provider"],
            litellm_model_name=model,
        )
    )


if "--realtime" in sys.argv:
    json.dump([name for name, facts in litellm.model_cost.items() if facts.get("mode") == "realtime"], sys.stdout)
    sys.exit()
with contextlib.redirect_stdout(sys.stderr):  # it prints what it thinks of a provider
    costs = [cost(case["model"], case["events"]) for case in json.load(sys.stdin)]
json.dump(costs, sys.stdout)
