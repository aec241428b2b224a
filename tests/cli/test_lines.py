import pytest

from recorder.cli.lines import render_line
from recorder.projection.timeline import Line
from recorder.protocol.envelope import Direction


@pytest.mark.parametrize(
    ("direction", "type_", "trouble"),
    [
        ("recorder", "recorder.gap", True),
        ("server", "recorder.gap", False),  # a peer that speaks in the recorder's name
        ("client", "recorder.gap", False),
        ("server", "error", True),
        ("server", "response.mcp_call.failed", True),
        ("server", "response.done", False),
    ],
)
def test_trouble_is_red(direction: Direction, type_: str, *, trouble: bool) -> None:
    line = Line(
        position=1,
        last_position=1,
        count=1,
        direction=direction,
        type=type_,
        at_ns=None,
        audio_ms=None,
        text="",
        summary="words",
    )
    styles = {str(span.style) for span in render_line(line, timed=False, width=30).spans}
    assert ("red" in styles) == trouble
