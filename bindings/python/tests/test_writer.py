"""What the writer counts, against a real server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pgraft.local_cluster import wait_for
from pgraft.writer import Record, Verdict, Writer, check


@pytest.fixture(scope="module")
def server(make_server: Callable[..., Any]) -> Any:
    one = make_server(1)
    one.start()
    return one


def dsn(server: Any) -> str:
    return (
        f"host=127.0.0.1 port={server.settings.port} user={server.owner.name} dbname=postgres "
        "target_session_attrs=read-write connect_timeout=2"
    )


def verdict(server: Any, record: Record, client: int) -> Verdict:
    with psycopg.connect(dsn(server)) as connection:
        return check(connection, client, record)


def test_every_acknowledged_row_is_found(server: Any) -> None:
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        Writer.create_table(connection)
    with Writer(dsn(server), 1) as writer:
        wait_for(lambda: writer.count >= 100, 60, "100 rows")
    record = writer.stop()
    found = verdict(server, record, 1)
    assert found.ok
    assert found.acknowledged == len(record.acknowledged) >= 100


def test_a_row_that_vanishes_is_reported_as_lost(server: Any) -> None:
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        Writer.create_table(connection)
    with Writer(dsn(server), 2) as writer:
        wait_for(lambda: writer.count >= 10, 60, "10 rows")
    record = writer.stop()
    server.query("DELETE FROM pgraft_writer WHERE client = 2 AND seq = 5")
    assert verdict(server, record, 2).lost == (5,)


def test_it_goes_on_after_a_restart_and_counts_the_open_one_as_unknown(server: Any) -> None:
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        Writer.create_table(connection)
    with Writer(dsn(server), 3) as writer:
        wait_for(lambda: writer.count >= 10, 60, "10 rows")
        server.stop(signal.SIGQUIT)
        server.start()
        before = writer.count
        wait_for(lambda: writer.count >= before + 10, 60, "10 more rows")
    record = writer.stop()
    numbers = [seq for seq, _ in record.acknowledged] + record.unknown
    assert len(numbers) == len(set(numbers))
    assert verdict(server, record, 3).ok


def test_refused_rows_are_no_unknown_ones(server: Any) -> None:
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        Writer.create_table(connection)
        connection.execute(
            "ALTER TABLE pgraft_writer ADD CONSTRAINT few CHECK (client <> 4 OR seq <> 7)"
        )
    with Writer(dsn(server), 4) as writer:
        wait_for(lambda: writer.count >= 10, 60, "10 rows")
    record = writer.stop()
    assert record.refused == 1
    assert record.unknown == []
    assert 7 not in [seq for seq, _ in record.acknowledged]


def test_the_longest_gap_is_that_of_the_span() -> None:
    record = Record(acknowledged=[(1, 0.0), (2, 5.0), (3, 5.5), (4, 7.5), (5, 8.0)])
    assert record.longest_gap() == 5.0
    assert record.longest_gap(start=5.2) == 2.0
    assert record.longest_gap(start=7.8) == 0.5
    assert record.first_after(5.0) == 5.5
