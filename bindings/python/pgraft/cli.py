"""The command line `pgraft`: its commands, a module for each topic in `pgraft.commands`."""

from __future__ import annotations

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
for topic in (show, check, change, failover, configure, here, nodes):
    topic.register(app)
