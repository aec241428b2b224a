"""DuckDB, and nothing else of it anywhere: running the models, and SQL over what is stored and what runs.

`run_models` makes the derived tables of whole sessions. `Engine` serves queries over segment files and running
sessions alike, for trusted SQL and, in a sandbox, for anybody's.
"""

from recorder.analytics.engine.keeping import KEPT_ROWS, KeepingEngine
from recorder.analytics.engine.reckoning import Files
from recorder.analytics.engine.running import FEW_EVENTS, run_checks, run_models
from recorder.analytics.engine.serving import DEFAULT_MEMORY, Engine

__all__ = [
    "DEFAULT_MEMORY",
    "FEW_EVENTS",
    "KEPT_ROWS",
    "Engine",
    "Files",
    "KeepingEngine",
    "run_checks",
    "run_models",
]
