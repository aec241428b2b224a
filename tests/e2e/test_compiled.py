"""What an installation compiles: the tests of the splice and the ring, once more, on the compiled modules."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.build import compiled_recorder

ROOT = Path(__file__).parents[2]
CHOSEN = (
    "tests/store/test_ring.py",
    "tests/proxy/test_splice.py",
    "tests/proxy/test_splice_ends.py",
    "tests/proxy/test_splice_frames.py",
    "tests/proxy/test_faults.py",
    "tests/e2e/test_identity.py",
    "tests/e2e/test_kill.py",
    # What these four are about, sealing in parts, is compiled nowhere.
    "--deselect=tests/e2e/test_kill.py::test_what_was_forwarded_is_sealed_once_in_parts",
)
PROBE = """
from recorder.proxy import selector, splice, streams
from recorder.proxy.compiled import is_compiled
from recorder.store import _carry, ring
print(is_compiled(), *(module.__file__.endswith(".so") for module in (_carry, ring, selector, splice, streams)))
"""


def setup(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("needs cc")
    tree = compiled_recorder(tmp_path_factory.mktemp("compiled"))
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("benchmarks", "sample_logs", "docs"):
        (tree / name).symlink_to(ROOT / name)
    return tree


@pytest.mark.timeout(600)
def test_the_compiled_modules_pass_the_tests_of_their_sources(tree: Path) -> None:
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=tree, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert probe.stdout == "True True True True True True\n"
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist", *CHOSEN]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 250


def test_without_a_compiler_all_is_interpreted_unless_compiling_was_insisted_on(tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    done = setup(tmp_path, RECORDER_COMPILE="", CC="/nonexistent/cc")
    assert (done.returncode, list(tmp_path.rglob("*.so"))) == (0, [])
    done = setup(tmp_path, RECORDER_COMPILE="1", CC="/nonexistent/cc")
    assert done.returncode == 1
    assert "RECORDER_COMPILE=1, but no C compiler finds Python.h: apt-get install" in done.stderr
    done = setup(tmp_path, RECORDER_COMPILE="yes")
    assert done.returncode == 1
    assert "RECORDER_COMPILE=yes: 1 compiles, 0 does not" in done.stderr
