"""What a worker reads from files, and reads again when told to: routes, client tokens, certificates, credentials."""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from recorder.errors import RecorderError, UsageError
from recorder.protocol.policy import ContentPolicy
from recorder.proxy.config import WorkerConfig
from recorder.proxy.consent import Mode, RecordingPolicy
from recorder.proxy.credentials import presented
from recorder.proxy.http import Request
from recorder.proxy.routefile import RouteDefaults, load_config
from recorder.proxy.routes import Route, Routes
from recorder.proxy.tls import listener_context, upstream_context
from recorder.proxy.tokenfailures import TokenFailures
from recorder.proxy.tokens import ClientTokens, read_tokens
from recorder.proxy.upstream import proxy_from_environment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force.

    Attributes:
        routes: where requests go.
        tokens: who may come in; None for everyone.
        listener_tls: TLS towards clients, or None for plain.
        failures: of clients to show a valid token.
    """

    routes: Routes
    tokens: ClientTokens | None
    listener_tls: ssl.SSLContext | None
    failures: TokenFailures

    def admit(self, request: Request, address: str) -> tuple[Route, str | None]:
        """The route that a request takes, and the name of its client's token (None where none is asked for).

        Args:
            request: the client's.
            address: where it comes from, HOST:PORT.

        Raises:
            RefusedError: 401, it has no valid token, or 429, as many before it had not; 404, there is no route; 400,
                its path is ambiguous.
        """
        client = None
        if self.tokens is not None:
            client = self.tokens.name_of(presented(request.target, request.headers))
            if client is None:
                raise self.failures.refusal(address.rpartition(":")[0], time.monotonic())
        return self.routes.match(request), client


def load(config: WorkerConfig, failures: TokenFailures | None = None) -> Loaded:
    """Read all that `config` names.

    Args:
        config: the worker's.
        failures: those counted so far.

    Raises:
        UsageError: something in it cannot be used; says what and where.
    """
    defaults = RouteDefaults(
        ca=Path(config.upstream_ca) if config.upstream_ca else None,
        connect_timeout_seconds=config.connect_timeout_seconds,
        handshake_timeout_seconds=config.handshake_timeout_seconds,
    )
    routes = load_config(Path(config.config_file), defaults) if config.config_file else [_only_route(config, defaults)]
    tokens = None
    if config.client_tokens:
        tokens = ClientTokens(read_tokens(Path(config.client_tokens)))
        _require_credentials(routes, config.config_file)
    tls = None
    if config.tls_cert:
        tls = listener_context(Path(config.tls_cert), Path(config.tls_key) if config.tls_key else None)
    return Loaded(Routes(routes), tokens, tls, failures or TokenFailures())


def _only_route(config: WorkerConfig, defaults: RouteDefaults) -> Route:
    return Route(
        name="default",
        upstream=config.upstream,
        tls=upstream_context(defaults.ca) if config.upstream.tls else None,
        proxy=proxy_from_environment(config.upstream),
        sideband=config.sideband,
        recording=RecordingPolicy(mode=Mode(config.record), content=ContentPolicy(config.drop_audio, config.hash_text)),
        connect_timeout_seconds=defaults.connect_timeout_seconds,
        handshake_timeout_seconds=defaults.handshake_timeout_seconds,
    )


def _require_credentials(routes: list[Route], config_file: str | None) -> None:
    """A client's token is ours: it must not be passed on as if it were the upstream's."""
    for route in routes:
        if not route.credential.replaces:
            where = f"{config_file}: route {route.name}" if config_file else "--upstream"
            raise UsageError(
                f"{where}: --client-tokens needs a credential for the upstream, or clients' tokens would go there",
                hint='Give each route of --config a credential; "none" if its upstream asks for none.',
            )


class Settings:
    """The settings of a running worker.

    Raises:
        UsageError: they cannot be used.

    Attributes:
        current: what is in force for connections to come; those that are here keep what they came in with.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self.current = load(config)

    def reload(self) -> bool:
        """Read everything again. What cannot be used leaves all as it is, and the log says why."""
        try:
            self.current = load(self._config, self.current.failures)
        except RecorderError as error:
            log.error("not reloaded, the settings stay as they were: %s", error.message)  # noqa: TRY400 - words say it all
            return False
        log.info("reloaded routes, tokens and certificates")
        return True
