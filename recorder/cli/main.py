"""The `recorder` command: what it is made of, and how it fails.

A command is a module of this package with a function of its own name (and `EXAMPLES`, lines for its help); one with
commands of its own has them in `app`. To add one, write the module and name it in `COMMANDS`. Modules are imported for
`--help` too, so they import what is slow (DuckDB, pyarrow, polars, FastAPI, websockets) inside their functions.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Final

import typer
from rich.markup import escape
from typer.exceptions import TyperException

from recorder.cli import (
    bundle,
    compact,
    demo,
    doctor,
    drift,
    erase,
    export,
    files,
    import_,
    otel,
    output,
    prices,
    proxy,
    prune,
    query,
    rebuild,
    redact,
    repair,
    replay,
    seal,
    serve,
    sessions,
    show,
    simulate,
    slo,
    stats,
    tokens,
    verify,
)
from recorder.cli.options import with_keys
from recorder.errors import RecorderError

COMMANDS: Final[tuple[tuple[str, tuple[ModuleType, ...]], ...]] = (
    ("Record", (proxy, tokens, simulate, demo)),
    ("Look", (sessions, show, replay, stats, doctor, slo, query, prices, drift, serve)),
    ("Store", (import_, export, bundle, otel, seal, verify, repair, rebuild, compact, files, prune, erase, redact)),
)
"""Panels of the help, and the modules of their commands."""

DEBUG: Final = "RECORDER_DEBUG"
"""Environment variable that makes unexpected errors show their traceback."""

INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""What a shell reports for programs that SIGINT and SIGPIPE end."""


def _version(asked: bool) -> None:
    if asked:
        from recorder import __version__
        from recorder.proxy.compiled import is_compiled

        sys.stdout.write(f"recorder {__version__} ({'compiled' if is_compiled() else 'interpreted'})\n")
        raise typer.Exit


def recorder(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            show_envvar=False,
            allow_from_autoenv=False,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Record, understand and replay live voice-AI sessions on the OpenAI Realtime API.

    Point your client at `recorder proxy`, then see what was said with `recorder show last --transcript`. An option can
    also be set by the environment variable that its help names. `recorder COMMAND --help` has examples.
    """


def build() -> typer.Typer:
    """The application with all its commands."""
    application = typer.Typer(
        name="recorder",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "RECORDER", "help_option_names": ["-h", "--help"]},
    )
    application.callback(help=_prose(recorder))(recorder)
    for panel, modules in COMMANDS:
        for module in modules:
            name = module.__name__.rpartition(".")[2]
            function = getattr(module, name)
            group: typer.Typer | None = getattr(module, "app", None)
            if group is not None:
                for command in group.registered_commands:
                    command.help = command.callback and _prose(command.callback)
                    command.callback = command.callback and with_keys(command.callback)
                application.add_typer(
                    group, name=name, rich_help_panel=panel, help=_prose(function), epilog=_examples(module)
                )
                continue
            application.command(
                name.rstrip("_"), rich_help_panel=panel, help=_prose(function), epilog=_examples(module)
            )(with_keys(function))
    return application


def _prose(function: Callable[..., None]) -> str:
    """A docstring as help: paragraphs flow, `code` is coloured, sections for programmers are left out."""
    text = inspect.cleandoc(function.__doc__ or "").partition("\n\nArgs:")[0].partition("\n\nRaises:")[0]
    flowing = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    return re.sub(r"`([^`]+)`", r"[cyan]\1[/cyan]", escape(flowing))


def _examples(module: ModuleType) -> str | None:
    examples: tuple[tuple[str, str], ...] = getattr(module, "EXAMPLES", ())
    lines = [f"[dim]# {escape(what)}[/dim]\n[cyan]{escape(command)}[/cyan]" for command, what in examples]
    return "\n".join(["[bold]Examples[/bold]", *lines]) if lines else None


app = build()


class BriefLog(logging.Handler):
    """Log records that no command has made other arrangements for: one line each, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        output.note(f"{record.levelname.lower()}: {record.getMessage()}")


def main() -> None:
    """Run the command line; every failure is a line for people and an exit code for programs."""
    if not os.environ.get(DEBUG):
        logging.lastResort = BriefLog(logging.WARNING)
    sys.exit(_run())


def _run() -> int:
    try:
        code = _call()
        sys.stdout.flush()
    except RecorderError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except TyperException as error:
        return _usage_failure(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    except Exception as error:  # noqa: BLE001  the last line of defence: no traceback reaches a user unasked
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _call() -> object:
    """The application's result, or an exit code; typer's own answer to a closed pipe is undone."""
    try:
        return app(prog_name="recorder", standalone_mode=False)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        raise


def _pipe_closed() -> int:
    """What is still buffered would raise again when Python closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return PIPE_CLOSED


def _usage_failure(error: TyperException) -> int:
    """Failures of the command line's own parsing, in the same form as ours."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2
    say = getattr(error, "format_message", None)
    hint = f"`{context.command_path} --help` lists what it takes." if context else ""
    return _fail(say() if say else str(error), hint, getattr(error, "exit_code", 1))


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        hint = "Allow more: `ulimit -n 65536`, or LimitNOFILE= in a systemd unit."
        return _fail(f"out of file descriptors: {error.strerror}", hint, 1)
    if os.environ.get(DEBUG):
        traceback.print_exc()
    hint = f"This is a bug in the recorder; {DEBUG}=1 shows where. Recordings are not affected."
    return _fail(f"unexpected {type(error).__name__}: {error}", hint, 70)


def _fail(message: str, hint: str, code: int) -> int:
    sys.stdout.flush()
    output.note(f"error: {message}")
    if hint:
        output.note(f"hint: {hint}")
    return code
