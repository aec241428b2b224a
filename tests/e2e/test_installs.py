import subprocess
from pathlib import Path

import pytest

from tests.e2e import installs


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (subprocess.TimeoutExpired("pip", 180), "not within 180 s"),
        (subprocess.CalledProcessError(1, "pip", "", "much\nERROR: no such thing\n"), "ERROR: no such thing"),
        (OSError("no disk"), "no disk"),
    ],
)
def test_what_cannot_be_installed_is_tried_once_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock = tmp_path / "requirements.lock"
    lock.write_text("nothing")
    tried: list[Path] = []

    def install(folder: Path) -> None:
        tried.append(folder)
        raise error

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match=f"thing cannot be installed here: {why}"):
            installs.cached("thing", lock, install)
    assert len(tried) == 1
    assert not tried[0].exists()
