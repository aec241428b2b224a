"""`recorder tokens`: who may come in through `recorder proxy --client-tokens`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recorder.cli.options import JsonOption

EXAMPLES = (
    ("recorder tokens add web-app --file tokens", "print a new token, once; the file keeps its hash"),
    ("recorder tokens list --file tokens", "whose there are"),
    ("recorder tokens remove web-app --file tokens", "from the proxy's next reload on (SIGHUP), it is refused"),
)

FileOption = Annotated[
    Path,
    typer.Option(
        "--file",
        metavar="FILE",
        envvar="RECORDER_CLIENT_TOKENS",
        help="The file that `recorder proxy --client-tokens` reads.",
        show_default=False,
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.", show_default=False)]

app = typer.Typer(no_args_is_help=True)


def tokens() -> None:
    """Tokens that clients show to the proxy in place of a key of the upstream's.

    Sessions get the token's name as the label `client`. Only hashes are kept.
    """


@app.command()
def add(name: NameArgument, file: FileOption) -> None:
    """Make a token and print it: this once, for only its hash is kept."""
    from recorder.cli.output import note
    from recorder.proxy.tokens import add_token

    token = add_token(file, name)
    note(f"The token of {name}. It cannot be shown again; a running proxy knows it after a reload (SIGHUP).")
    sys.stdout.write(f"{token}\n")


@app.command("list")
def list_(file: FileOption, json: JsonOption = False) -> None:
    """List whose tokens there are."""
    from recorder.cli.output import print_json, print_table
    from recorder.proxy.tokens import read_tokens

    found = read_tokens(file)
    if json:
        print_json([{"name": token.name, "created": token.created or None} for token in found])
    else:
        print_table(("NAME", "CREATED"), [(token.name, token.created or "–") for token in found])


@app.command()
def remove(name: NameArgument, file: FileOption) -> None:
    """Take a token away. A running proxy refuses it after a reload (SIGHUP)."""
    from recorder.proxy.tokens import remove_token

    remove_token(file, name)
