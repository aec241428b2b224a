"""The harness itself, with the smallest numbers that make it do all of its work once."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.bench import Bench
from benchmarks.build import Toolbox, prepare
from benchmarks.evidence import check
from benchmarks.goals import judge
from benchmarks.load import Load, Traffic
from benchmarks.pieces import together
from benchmarks.processes import BenchmarkError, need
from benchmarks.report import Report, tables, write_docs, write_json
from benchmarks.workloads import Case, result_of


def _has_compiler() -> bool:
    return shutil.which("cc") is not None and Path("/usr/include/openssl/ssl.h").exists()


pytestmark = pytest.mark.skipif(not _has_compiler(), reason="needs cc and OpenSSL's headers")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Toolbox:
    return prepare(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def bench(tools: Toolbox) -> Bench:
    return Bench(tools, quick=True)


def test_voice_over_tls_is_in_the_sealed_store_message_by_message(bench: Bench) -> None:
    traffic = Traffic("voice", 3, 0.5, warmup=0.2)
    measure = bench.measure("recorder", traffic, tls=True, verify=True)
    seen = measure.evidence
    assert seen is not None
    assert measure.outcome.sessions == 3
    assert (measure.outcome.lost, measure.outcome.broken, measure.outcome.failed) == (0, 0, 0)
    assert seen.sent == seen.received == seen.stored > 3 * 0.7 * 50
    assert (seen.missing, seen.doubled, seen.beyond, seen.gaps, seen.unaccounted_bytes) == (0, 0, 0, 0, 0)
    assert measure.cpu_seconds >= 0
    assert list(bench.tools.cache.glob("room-*")) == []


def test_a_case_becomes_tables_goals_and_json(bench: Bench, tmp_path: Path) -> None:
    case = Case("w1", Traffic("pingpong", 1, 0.2, warmup=0.1))
    taken = {name: [bench.measure(name, case.traffic)] for name in ("direct", "relay", "recorder")}
    result = result_of(case, {**taken, "haproxy": []}, {"haproxy": "not here"})
    ours = result.of("recorder")
    assert ours is not None
    assert ours.p50_us is not None
    assert ours.added_p50_us == pytest.approx(ours.p50_us - taken["direct"][0].outcome.latency_down.p50_us)
    assert result.of("haproxy") is None
    assert judge([result], [], []) == []  # nothing to compare with
    report = Report(date="2026-01-01", command="x", machine=_machine(), rounds=1, quick=True, cases=[result])
    write_json(report, tmp_path / "results.json")
    assert msgspec.json.decode((tmp_path / "results.json").read_bytes(), type=Report).cases[0].key == "pingpong_plain"
    docs = tmp_path / "benchmarks.md"
    docs.write_text("a\n<!-- w1:begin -->\nold\n<!-- w1:end -->\nb\n")
    write_docs(report, docs)
    assert docs.read_text().startswith(f"a\n<!-- w1:begin -->\n{tables(report)['w1']}\n<!-- w1:end -->\nb")
    assert "| plain | HAProxy, tcp mode | not here | – | – | – |" in docs.read_text()
    both = together([report, msgspec.structs.replace(report, command="y --json b.json")])
    (merged,) = both.cases
    assert (both.rounds, both.command) == (2, "x and the like, 2 pieces")
    assert [(one.candidate, one.rounds, one.p50_us) for one in merged.figures] == [
        (one.candidate, 2 * one.rounds, one.p50_us) for one in result.figures
    ]
    assert together([report]) is report


def test_what_others_use_of_the_machine_is_seen(bench: Bench) -> None:
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command) as other:
        try:
            measure = bench.measure("direct", Traffic("pingpong", 1, 0.4, warmup=0.1))
        finally:
            other.kill()
    assert measure.others_share > 0.05


def test_messages_that_are_not_on_record_are_counted(bench: Bench) -> None:
    """The proof of the proof: an unlike record of what was sent must be noticed."""
    with bench.scene(tls=False) as scene:
        with bench.start("recorder", scene) as proxy, bench.load(Traffic("voice", 2, 0.2, warmup=0.1), scene) as load:
            _to_the_end(load)
            assert len(proxy.pids) >= 3
        lines = load.record.read_text().splitlines()
        session, sent_up, received_up, sent_down, received_down = map(int, lines[1].split(","))
        lines[1] = f"{session},{sent_up + 2},{received_up + 2},{sent_down - 1},{received_down - 1}"
        load.record.write_text("\n".join(lines) + "\n")
        seen = check(scene.data, load.record)
    assert (seen.missing, seen.beyond, seen.doubled) == (2, 1, 0)


def _to_the_end(load: Load) -> None:
    for phase in ("ready", "begin", "end"):
        load.wait_for(phase)
    assert load.outcome().lost == 0


def _machine() -> dict[str, object]:
    names = ("cpu", "cores", "memory_gib", "kernel", "python", "openssl", "haproxy", "nginx", "websockets", "recorder")
    return dict.fromkeys(names, "x")


def test_a_program_that_is_missing_is_said_with_its_package() -> None:
    with pytest.raises(BenchmarkError) as caught:
        need("no-such-proxy", "some-package")
    assert caught.value.message == "no-such-proxy is not installed"
    assert caught.value.hint == "apt-get install some-package"
