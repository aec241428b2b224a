"""The routes' file: what it may say, and what is said about its mistakes."""

from pathlib import Path

import pytest

from recorder.errors import UsageError
from recorder.protocol.policy import ContentPolicy
from recorder.proxy.consent import Mode, RecordingPolicy
from recorder.proxy.routefile import RouteDefaults, load_config
from recorder.proxy.routes import Route
from recorder.proxy.routetable import ALLOWED, RouteTable
from recorder.proxy.upstream import HttpProxy, Upstream

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"

UPSTREAM = Upstream.parse("ws://upstream.test")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def one(tmp_path: Path, lines: str) -> Route:
    """The route of a file with these lines."""
    (route,) = load_config(write(tmp_path, f'[[route]]\nname = "r"\nupstream = "ws://upstream.test"\n{lines}\n'))
    return route


def test_a_route_that_says_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " sk-1 \n")
    text = """
[[route]]
name = "all"
host = "Voice.Example.COM"
path_prefix = "/openai/"
strip_prefix = true
upstream = "wss://api.openai.com/base/"
proxy = "http://me:p%40ss@10.0.0.1:3128"
connect_timeout_seconds = 3
handshake_timeout_seconds = 7.5
set_headers = { X-Team = "voice", Host = "front.test" }
remove_headers = ["User-Agent", "Sec-WebSocket-Extensions"]
credential = { value_from_env = "A_KEY", prefix = "Bearer " }
recording = "no-audio"
sample = 0.5
consent_header = "X-Consent"
consent_may_loosen = true
drop_audio = "client"
hash_text = true
labels = { team = "voice" }
label_headers = ["X-Recorder-Label-Tenant"]
"""
    (route,) = load_config(write(tmp_path, text))
    assert (route.name, route.host, route.path_prefix, route.strip_prefix) == (
        "all",
        "voice.example.com",
        "/openai",
        True,
    )
    assert route.upstream.url == "wss://api.openai.com/base"
    assert route.tls is not None
    assert route.proxy == HttpProxy("10.0.0.1", 3128, "Basic bWU6cEBzcw==")
    assert (route.connect_timeout_seconds, route.handshake_timeout_seconds) == (3, 7.5)
    assert route.set_headers == (("X-Team", "voice"), ("Host", "front.test"))
    assert route.remove_headers == {"user-agent", "sec-websocket-extensions"}
    assert (route.credential.header, route.credential.value) == ("Authorization", "Bearer sk-1")
    assert route.recording == RecordingPolicy(
        mode=Mode.NO_AUDIO,
        sample=0.5,
        consent_header="x-consent",
        consent_may_loosen=True,
        content=ContentPolicy("client", hash_text=True),
    )
    assert (route.labels, route.label_headers) == ({"team": "voice"}, ("x-recorder-label-tenant",))


def test_what_a_route_does_not_say_is_the_command_lines(tmp_path: Path) -> None:
    path = write(tmp_path, '[[route]]\nname = "r"\nupstream = "ws://upstream.test"')
    (route,) = load_config(path, RouteDefaults(connect_timeout_seconds=1.5, handshake_timeout_seconds=2.5))
    expected = Route(name="r", upstream=UPSTREAM, connect_timeout_seconds=1.5, handshake_timeout_seconds=2.5)
    assert route == expected


def test_the_secrets_of_a_route_are_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-geheim\n", encoding="utf-8")
    route = one(tmp_path, 'credential = { value_from_file = "key" }\nproxy = "http://me:geheim@h"')
    assert (route.credential.value, route.credential.source) == ("sk-geheim", "key")
    assert "geheim" not in f"{route!r} {route.proxy} {route.credential}"
    assert "Basic" not in f"{route!r}"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("strip_prefx = true", "route r: unknown key 'strip_prefx', is strip_prefix meant? | Allowed: name, upstream,"),
        ("sample = 1.5", "route r: sample: Expected `float` <= 1.0 | Allowed: a number from 0 to 1."),
        ('sample = "half"', "route r: sample: Expected `float`, got `str` | "),
        ('recording = "maybe"', 'route r: recording: Invalid enum value \'maybe\' | Allowed: "on", "off" or'),
        ('drop_audio = "all"', 'route r: drop_audio: Invalid enum value \'all\' | Allowed: "client", "server" or'),
        ("hash_text = 1", "route r: hash_text: Expected `bool`, got `int` | Allowed: true or false."),
        ("consent_may_loosen = true", "route r: consent_may_loosen: there is no consent_header | "),
        ("connect_timeout_seconds = 0", "route r: connect_timeout_seconds: Expected `float` > 0.0 | "),
        ('path_prefix = "v1"', "route r: path_prefix: Expected `str` matching regex"),
        ('path_prefix = "/v1?x"', "route r: path_prefix: Expected `str` matching regex"),
        ("strip_prefix = true", "route r: strip_prefix: there is no path_prefix to strip | "),
        ('host = "a.test:80"', "route r: host: "),
        ('proxy = "socks5://me:geheim@h"', "route r: proxy is not an HTTP proxy's URL | Give it as http://"),
        ('proxy = "http://[geheim"', "route r: proxy is no URL | "),
        ('set_headers = { "a b" = "c" }', "route r: set_headers: Expected `str` matching regex"),
        ('set_headers = { A = "b\\r\\nC: d" }', "route r: set_headers: the value of A has characters"),
        ('set_headers = { Upgrade = "h2c" }', "route r: set_headers: upgrade belongs to the handshake"),
        ('remove_headers = ["Sec-WebSocket-Key"]', "route r: remove_headers: sec-websocket-key belongs to"),
        ('label_headers = ["Host"]', "route r: label_headers: host belongs to"),
        ('labels = { client = "x" }', "route r: labels: the label client is the name of the client's token"),
        ('label_headers = ["X-Recorder-Label-Client"]', "route r: label_headers: the label client is"),
        ("labels = { team = 1 }", "route r: labels: Expected `str`, got `int`"),
        ('credential = "inject"', 'route r: credential: Invalid enum value \'inject\' | Allowed: "pass", "none", or'),
        ('credential = { header = "api-key" }', "route r: credential: needs one of value_from_env and value_from_file"),
        ('credential = { value_from_env = "NOT_SET_AT_ALL" }', "credential: $NOT_SET_AT_ALL is empty or not set"),
        ('credential = { value_from_file = "nowhere" }', "nowhere: No such file or directory"),
        ('credential = { value = "sk-1" }', "credential: Object contains unknown field `value`"),
        ('ca = "nowhere.pem"\nupstream = "wss://h"', "route r: ca"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, lines: str, said: str) -> None:
    text = '[[route]]\nname = "r"\n' + ("" if "upstream" in lines else 'upstream = "ws://upstream.test"\n') + lines
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as failed:
        load_config(path)
    assert failed.value.message.startswith(f"{path}: route r: ")
    assert said in f"{failed.value.message} | {failed.value.hint}"
    assert "geheim" not in failed.value.message + failed.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no route in it"),
        ("route = 1", "there is no route in it"),
        ("routes = []", "unknown key 'routes'"),
        ("[[route]", "(at line 1, column"),
        ("[[route]]\nupstream = 'ws://h'", "route 1: name: is missing"),
        ("[[route]]\nname = 'r'", "route r: upstream: is missing"),
        ("[[route]]\nname = 'r r'\nupstream = 'ws://h'", "route r r: name: Expected `str` matching"),
        (
            "[[route]]\nname = 'r'\nupstream = 'api.openai.com'",
            "route r: upstream 'api.openai.com' is no WebSocket URL",
        ),
        ("[[route]]\nname = 'r'\nupstream = 'ws://u:geheim@h'", "route r: upstream: no user or password may stand"),
        ("[[route]]\nname='r'\nupstream='ws://h'\n[[route]]\nname='r'\nupstream='ws://i'\nhost='x'", "is there twice"),
        ("[[route]]\nname='a'\nupstream='ws://h'\n[[route]]\nname='b'\nupstream='ws://i'", "same requests as route a"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as failed:
        load_config(write(tmp_path, text))
    assert said in failed.value.message
    assert str(tmp_path) in failed.value.message
    assert "geheim" not in failed.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config .*nowhere: No such file"):
        load_config(tmp_path / "nowhere")


def test_every_key_says_what_is_allowed_and_is_documented() -> None:
    assert set(ALLOWED) == set(RouteTable.__struct_fields__)
    text = DOCS.read_text(encoding="utf-8")
    assert [key for key in ALLOWED if f"| `{key}` |" not in text] == []


def test_the_documents_example_is_a_file_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    (tmp_path / "azure.key").write_text("k", encoding="utf-8")
    text = DOCS.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    assert [route.name for route in load_config(write(tmp_path, text))] == ["openai", "azure", "local"]


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("wss://api.test", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("wss://api.test", {"HTTP_PROXY": "http://p:1"}, None),
        ("ws://api.test", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("ws://api.test", {"HTTPS_PROXY": "http://p:1"}, None),
        ("ws://api.test", {"ALL_PROXY": "http://p"}, "http://p:80"),
        ("wss://api.test", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, "http://q:2"),
        ("wss://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x.test, .api.test"}, None),
        ("wss://sub.api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test"}, None),
        ("wss://api.test:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test:443"}, "http://p:1"),
        ("wss://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("ws://localhost:1", {"HTTP_PROXY": "http://p:1"}, None),
        ("ws://127.0.0.1:1", {"ALL_PROXY": "http://p:1"}, None),
        ("wss://[::1]:1", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_a_proxy_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], expected: str | None
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (route,) = load_config(write(tmp_path, f'[[route]]\nname = "r"\nupstream = "{url}"'))
    assert (str(route.proxy) if route.proxy else None) == expected
    (direct,) = load_config(write(tmp_path, f'[[route]]\nname = "r"\nproxy = "none"\nupstream = "{url}"'))
    assert direct.proxy is None


def test_a_proxy_in_the_environment_that_cannot_be_used_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://me:geheim@h")
    with pytest.raises(UsageError, match="HTTPS_PROXY in the environment is not an HTTP proxy's URL") as failed:
        load_config(write(tmp_path, '[[route]]\nname = "r"\nupstream = "wss://api.test"'))
    assert "geheim" not in failed.value.message
