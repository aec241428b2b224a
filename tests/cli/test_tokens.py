"""`recorder tokens`, and what `recorder proxy` says of its routes before it starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.errors import UsageError
from recorder.proxy.tokens import ClientTokens, read_tokens


def recorder(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def failure(*arguments: str) -> UsageError:
    with pytest.raises(UsageError) as failed:
        recorder(*arguments)
    return failed.value


def test_a_token_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    added = recorder("tokens", "add", "web-app", "--file", str(file))
    token = added.stdout.strip()
    assert ClientTokens(read_tokens(file)).name_of([token]) == "web-app"
    assert token not in file.read_text(encoding="utf-8") + added.stderr
    listed = recorder("tokens", "list", "--file", str(file))
    assert listed.stdout.split()[:2] == ["NAME", "CREATED"]
    assert "web-app" in listed.stdout
    rows = json.loads(recorder("tokens", "list", "--file", str(file), "--json").stdout)
    assert [row["name"] for row in rows] == ["web-app"]
    assert recorder("tokens", "remove", "web-app", "--file", str(file)).exit_code == 0
    assert json.loads(recorder("tokens", "list", "--file", str(file), "--json").stdout) == []


def test_the_file_can_be_named_by_the_proxys_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECORDER_CLIENT_TOKENS", str(tmp_path / "tokens"))
    assert recorder("tokens", "add", "a").exit_code == 0
    assert [token.name for token in read_tokens(tmp_path / "tokens")] == ["a"]


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in failure("tokens", "remove", "a", "--file", str(tmp_path / "tokens")).message


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("A_KEY", "sk-geheim")
    file = tmp_path / "routes.toml"
    file.write_text(
        """
[[route]]
name = "all"
upstream = "ws://127.0.0.1:9000"
[[route]]
name = "openai"
host = "voice.test"
path_prefix = "/v1"
strip_prefix = true
upstream = "wss://api.openai.com"
proxy = "http://me:geheim@10.0.0.1:3128"
credential = { value_from_env = "A_KEY", prefix = "Bearer " }
sample = 0.25
consent_header = "X-Consent"
drop_audio = "client"
hash_text = true
labels = { team = "voice" }
label_headers = ["X-Tenant"]
""",
        encoding="utf-8",
    )
    return file


def test_routes_can_be_looked_at(routes: Path, tmp_path: Path) -> None:
    shown = recorder("proxy", "--config", str(routes), "--check-config", "--data", str(tmp_path / "data"))
    lines = [[cell for cell in line.split("  ") if cell] for line in shown.stdout.splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert cells[0] == ["NAME", "HOST", "PATH", "UPSTREAM", "THROUGH", "CREDENTIAL", "RECORDING", "LABELS"]
    assert cells[2:] == [
        [
            "openai",
            "voice.test",
            "/v1 (stripped)",
            "wss://api.openai.com",
            "http://10.0.0.1:3128",
            "Authorization from $A_KEY",
            "on, 0.25 of all, no audio of the client, texts hashed, less if x-consent says so",
            "team=voice, x-tenant",
        ],
        ["all", "any", "/", "ws://127.0.0.1:9000", "–", "the client's", "on", "–"],
    ]
    assert "geheim" not in shown.output
    assert not (tmp_path / "data").exists()


def test_without_a_file_there_is_one_route() -> None:
    assert "wss://api.openai.com" in recorder("proxy", "--check-config").stdout


def test_what_is_kept_is_said_by_the_routes_or_by_options_not_by_both(
    routes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        " no-audio, texts hashed " in recorder("proxy", "--record", "no-audio", "--hash-text", "--check-config").stdout
    )
    for option in (("--record", "off"), ("--drop-audio", "client"), ("--hash-text",), ("--sideband",)):
        failed = failure("proxy", "--config", str(routes), "--check-config", *option)
        assert failed.message == "--config excludes --record, --drop-audio, --hash-text and --sideband"
    monkeypatch.setenv("RECORDER_HASH_TEXT", "1")
    monkeypatch.setenv("RECORDER_DROP_AUDIO", "server")
    assert "on, no audio of the server, texts hashed" in recorder("proxy", "--check-config").stdout


def test_what_is_wrong_is_said(routes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failure("proxy", "--config", str(routes), "--check-config", "--upstream", "wss://h")
    assert failed.message == "--config and --upstream exclude each other"
    recorder("tokens", "add", "a", "--file", str(tmp_path / "tokens"))
    failed = failure("proxy", "--config", str(routes), "--check-config", "--client-tokens", str(tmp_path / "tokens"))
    assert failed.message.startswith(f"{routes}: route all: --client-tokens needs a credential for the upstream")
    monkeypatch.delenv("A_KEY")
    failed = failure("proxy", "--config", str(routes), "--check-config")
    assert failed.message == f"{routes}: route openai: credential: $A_KEY is empty or not set"
    assert failed.exit_code == 2


def test_a_certificate_of_ones_own_needs_no_other(tmp_path: Path) -> None:
    failed = failure("proxy", "--tls-self-signed", "--tls-cert", "c.pem", "--data", str(tmp_path))
    assert "--tls-cert" in failed.message


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recorder.proxy.certificates", None)
    failed = failure("proxy", "--tls-self-signed", "--data", str(tmp_path / "data"))
    assert failed.message == "--tls-self-signed needs the package cryptography"
    assert "pip install '.[tls]'" in failed.hint
