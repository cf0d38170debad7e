"""The command line `pgraft`: its commands, a module for each topic in `pgraft.commands`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from pgraft import _pgraft
from pgraft.commands import change, check, configure, failover, here, nodes, show
from pgraft.commands.base import EXIT_STATUSES, App

app = App(
    name="pgraft",
    help="PostgreSQL high availability from inside PostgreSQL, by Raft consensus.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pgraft {package_version()} (library {_pgraft.__version__})")
        raise typer.Exit


def package_version() -> str:
    """Of the Python package; "not installed" when it runs from where its files lie."""
    try:
        return version("pgraft")
    except PackageNotFoundError:
        return "not installed"


@app.callback()
def common(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of the package and of its library, and exit.",
        ),
    ] = False,
) -> None:
    """PostgreSQL high availability from inside PostgreSQL, by Raft consensus."""


for topic in (show, check, change, failover, configure, here, nodes):
    topic.register(app)
