"""Who takes part: nobody in between, two proxies that record nothing, two that do, and ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.build import Toolbox, mitmdump
from benchmarks.processes import need

DIRECT: Final = "direct"
OURS: Final = "recorder"
YARDSTICK: Final = "haproxy"
PEERS: Final = ("haproxy", "nginx", "relay", "mitmproxy")
DEFAULT_PEERS: Final = ("haproxy", "nginx", "relay")

RECORDER: Final = (sys.executable, "-c", "from recorder.cli.main import main; main()")

_NGINX_STREAM: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@dataclass(frozen=True)
class Scene:
    """What a candidate is asked to do.

    Attributes:
        tools: where things lie.
        room: a directory of its own, empty.
        listen: its port.
        upstream: the port it connects to.
        tls: whether that speaks TLS.
        options: further arguments, for ours.
    """

    tools: Toolbox
    room: Path
    listen: int
    upstream: int
    tls: bool
    options: tuple[str, ...] = ()

    @property
    def data(self) -> Path:
        """The store, for ours."""
        return self.room / "data"


def _haproxy(scene: Scene) -> list[str]:
    """Mode tcp, one thread, the upstream's certificate verified."""
    tls = f" ssl ca-file {scene.tools.certificate} verify required" if scene.tls else ""
    config = scene.room / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 4000\n"
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen benchmark\n  bind 127.0.0.1:{scene.listen}\n  server upstream 127.0.0.1:{scene.upstream}{tls}\n",
        encoding="utf-8",
    )
    return [need("haproxy", "haproxy"), "-db", "-f", str(config)]


def _nginx(scene: Scene) -> list[str]:
    """The stream module, one worker, the upstream's certificate verified."""
    tls = (
        f"proxy_ssl on; proxy_ssl_verify on; proxy_ssl_name localhost; "
        f"proxy_ssl_trusted_certificate {scene.tools.certificate};"
        if scene.tls
        else ""
    )
    load = f"load_module {_NGINX_STREAM};\n" if _NGINX_STREAM.exists() else ""
    config = scene.room / "nginx.conf"
    config.write_text(
        f"{load}user root;\ndaemon off;\nworker_processes 1;\npid {scene.room}/pid;\nerror_log stderr crit;\n"
        "events { worker_connections 10000; }\n"
        f"stream {{ server {{ listen 127.0.0.1:{scene.listen} backlog=4096; "
        f"proxy_pass 127.0.0.1:{scene.upstream}; proxy_timeout 1h; {tls} }} }}\n",
        encoding="utf-8",
    )
    return [need("nginx", "nginx libnginx-mod-stream"), "-e", "stderr", "-p", str(scene.room), "-c", str(config)]


def _relay(scene: Scene) -> list[str]:
    """`relay.py`: the websockets library, a JSONL file a session."""
    scheme, ca = ("wss", [str(scene.tools.certificate)]) if scene.tls else ("ws", [])
    script = str(Path(__file__).with_name("relay.py"))
    url = f"{scheme}://127.0.0.1:{scene.upstream}"
    return [sys.executable, script, str(scene.listen), url, str(scene.room), *ca]


def _mitmproxy(scene: Scene) -> list[str]:
    """mitmdump as a reverse proxy, saving flows to a file."""
    scheme = "https" if scene.tls else "http"
    return [
        str(mitmdump(scene.tools.cache)),
        *("--mode", f"reverse:{scheme}://127.0.0.1:{scene.upstream}"),
        *("--listen-host", "127.0.0.1", "--listen-port", str(scene.listen)),
        *("--set", f"ssl_verify_upstream_trusted_ca={scene.tools.certificate}"),
        *("--set", f"confdir={scene.room}", "--quiet", "--save-stream-file", str(scene.room / "flows")),
    ]


def _recorder(scene: Scene) -> list[str]:
    """`recorder proxy`, compiled, recording on, synced every second, sealing paused, with a ring for many sessions."""
    scheme, ca = ("wss", ["--upstream-ca", str(scene.tools.certificate)]) if scene.tls else ("ws", [])
    return [
        *("env", "-C", str(scene.tools.recorder), *RECORDER, "proxy", "--listen", f"127.0.0.1:{scene.listen}"),
        *("--upstream", f"{scheme}://127.0.0.1:{scene.upstream}", *ca),
        *("--data", str(scene.data), "--ring-mb", "256", "--drain-seconds", "2", *(scene.options or ("--no-seal",))),
    ]


COMMANDS: Final[dict[str, Callable[[Scene], list[str]]]] = {
    "haproxy": _haproxy,
    "nginx": _nginx,
    "relay": _relay,
    "mitmproxy": _mitmproxy,
    OURS: _recorder,
}

WORDS: Final = {
    DIRECT: "direct (load side's ceiling)",
    "haproxy": "HAProxy, tcp mode",
    "nginx": "nginx, stream",
    "relay": "websockets relay + JSONL",
    "mitmproxy": "mitmproxy, saving flows",
    OURS: "recorder, recording",
}
