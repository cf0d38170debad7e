"""prepare against real servers without the extension: rewind, clone, and interruptions of both."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pgraft import _pgraft, clone, durable, rewind
from pgraft import prepare as prepare_module
from pgraft.errors import NoLeader, ProgramError, SetupError
from pgraft.exclusive import exclusive
from pgraft.local_cluster import wait_for
from pgraft.pg import Postgres
from pgraft.prepare import Outcome, prepare, read_rejoin
from pgraft.progress import Progress
from pgraft.source import Source, connection_string


class Interrupted(BaseException):
    """Stands for kill -9 at that place: nothing in between catches it."""


class Pair:
    """Node 1 was the primary and wrote on after node 2 was promoted; node 1 is down."""

    def __init__(self, make_server: Callable[..., Any]) -> None:
        self.old = make_server(1)
        self.old.start()
        self.old.query("CREATE TABLE t (i int)")
        self.old.query("INSERT INTO t SELECT generate_series(1, 1000)")
        self.new = make_server(2, source=self.old)
        self.new.start()
        wait_for(lambda: self.rows(self.new) == 1000, 60, "node 2 to follow")
        self.new.query("SELECT pg_promote()")
        self.old.query("INSERT INTO t SELECT generate_series(1, 5000)")
        self.new.query("INSERT INTO t VALUES (-1)")
        self.old.stop(signal.SIGQUIT)
        self.sources = [self.source()]
        self.write_state()
        self.template = self.old.paths.pgdata.parent.with_name("template")
        self._copy(self.old.paths.pgdata.parent, self.template)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)

    def reset(self) -> None:
        """Node 1 is again as it was when it went down; node 2 has only been read."""
        self.old.stop(signal.SIGQUIT)
        self.sources = [self.source()]
        shutil.rmtree(self.old.paths.pgdata.parent)
        self._copy(self.template, self.old.paths.pgdata.parent)

    def rows(self, server: Any) -> int:
        return int(server.query("SELECT count(*) FROM t")[0][0])

    def source(self, port: int | None = None) -> Source:
        port = port or self.new.settings.port
        conninfo = connection_string("127.0.0.1", port, "", self.new.owner.name)
        return Source(2, "127.0.0.1", port, conninfo, promoted_timeline=2)

    def next_source(self, *_: Any) -> Source:
        return self.sources.pop(0) if len(self.sources) > 1 else self.sources[0]

    def write_state(self) -> None:
        data_dir = str(self.old.paths.data_dir)
        identity = _pgraft.IdentityFile()
        identity.cluster_name = "pgraft"
        identity.cluster_id = 5
        identity.node_id = 1
        identity.incarnation = 11
        identity.system_identifier = 1
        identity.binding = 99
        _pgraft.write_identity(data_dir, identity)
        binding = _pgraft.BindingFile()
        binding.node_id = 1
        binding.incarnation = 11
        binding.binding = 99
        _pgraft.write_binding(str(self.old.paths.pgdata), binding)
        member = _pgraft.Member()
        member.id, member.incarnation, member.name = 2, 22, "node2"
        member.address, member.port = "127.0.0.1", self.new.settings.raft_port
        member.pg_host, member.pg_port = "127.0.0.1", self.new.settings.port
        _pgraft.write_members(data_dir, [member])
        self.request(_pgraft.RejoinMode.REWIND)
        self.old.owner.give(self.old.paths.data_dir)

    def request(self, mode: Any) -> None:
        rejoin = _pgraft.RejoinFile()
        rejoin.state = _pgraft.RejoinState.REQUESTED
        rejoin.mode = mode
        rejoin.source_node = 2
        rejoin.reason = "diverged at 0/0"
        _pgraft.write_rejoin(str(self.old.paths.data_dir), rejoin)

    def prepare(self) -> Outcome:
        return prepare(self.old.paths, timeout=20)

    def prepare_interrupted(self, module: Any, function: str, interrupt: Any) -> None:
        """Interrupted at that function, the server must not start; the next try makes it whole."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, function, interrupt)
            with pytest.raises(Interrupted):
                self.prepare()
        rejoin = read_rejoin(self.old.paths)
        assert rejoin is not None
        assert rejoin.state != _pgraft.RejoinState.CATCHING_UP
        assert self.prepare() in (Outcome.REWOUND, Outcome.CLONED)
        self.check_whole()

    def check_whole(self) -> None:
        """The node is what it was, with the new leader's data, and follows it."""
        paths = self.old.paths
        rejoin = read_rejoin(paths)
        assert rejoin is not None
        assert rejoin.state == _pgraft.RejoinState.CATCHING_UP
        assert rejoin.target[0] == 2
        assert rejoin.target[1] > 0
        binding = _pgraft.read_binding(str(paths.pgdata))
        assert binding.node_id == 1
        assert binding.incarnation == 11
        assert binding.binding == rejoin.binding != 99
        assert paths.standby_signal.exists()
        assert not paths.clone.exists()
        assert not paths.replaced.exists()
        self.old.use_no_extension(primary_conninfo=f"host=127.0.0.1 port={self.new.settings.port}")
        self.old.start()
        assert self.old.query("SHOW port") == [(str(self.old.settings.port),)]
        wait_for(lambda: self.rows(self.old) == 1001, 60, "node 1 to follow node 2")
        assert self.old.query("SELECT pg_is_in_recovery()") == [(True,)]


@pytest.fixture(scope="module")
def both(make_server: Callable[..., Any]) -> Pair:
    return Pair(make_server)


@pytest.fixture
def pair(both: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    both.reset()
    monkeypatch.setattr(prepare_module, "find_source", both.next_source)
    return both


def test_a_diverged_node_is_rewound_and_its_wal_kept(pair: Pair) -> None:
    assert pair.prepare() is Outcome.REWOUND
    kept = list(pair.old.paths.aside.glob("wal-1/*"))
    assert kept
    pair.check_whole()


def test_what_was_put_aside_goes_once_the_node_has_caught_up(pair: Pair) -> None:
    pair.request(_pgraft.RejoinMode.CLONE)
    pair.prepare()
    assert pair.old.paths.retired.exists()
    assert pair.prepare() is Outcome.NOTHING
    assert pair.old.paths.retired.exists(), "not before it has caught up"
    (pair.old.paths.data_dir / "rejoin").unlink()
    assert pair.prepare() is Outcome.NOTHING
    assert not pair.old.paths.retired.exists()


def test_a_node_without_the_wal_for_a_rewind_is_cloned(pair: Pair) -> None:
    class Refuses:
        calls = 0

    def fail(*_: Any) -> None:
        Refuses.calls += 1
        raise ProgramError("pg_rewind", 1, "could not find previous WAL record")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "run_pg_rewind", fail)
        assert pair.prepare() is Outcome.CLONED
    assert Refuses.calls == 3, "it may have been a passing error"
    pair.check_whole()


def test_a_passing_error_of_a_rewind_costs_no_clone(pair: Pair) -> None:
    """Twice pg_rewind can't reach its source."""
    real = rewind.run_pg_rewind
    ports = [1, 1, None]

    def run(postgres: Any, owner: Any, paths: Any, _: Source, progress: Progress) -> None:
        rejoin = read_rejoin(pair.old.paths)
        assert rejoin is not None
        assert rejoin.mode == _pgraft.RejoinMode.CLONE, "should it be interrupted"
        real(postgres, owner, paths, pair.source(ports.pop(0)), progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "run_pg_rewind", run)
        assert pair.prepare() is Outcome.REWOUND
    assert not ports
    assert len(list(pair.old.paths.aside.iterdir())) == 1, "its WAL is kept once"
    pair.check_whole()


def test_a_rewind_whose_source_is_gone_is_not_given_up(pair: Pair) -> None:
    """However often it fails: a clone could not be made either."""

    def fail(*_: Any) -> None:
        pair.sources = [pair.source(port=1)]
        raise ProgramError("pg_rewind", 1, "server closed the connection unexpectedly")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "run_pg_rewind", fail)
        patch.setattr(Source, "check_writable", _fails_the_second_time())
        with pytest.raises(NoLeader):
            prepare(pair.old.paths, timeout=3)
    rejoin = read_rejoin(pair.old.paths)
    assert rejoin is not None
    assert rejoin.mode == _pgraft.RejoinMode.REWIND
    pair.sources = [pair.source()]
    assert pair.prepare() is Outcome.REWOUND
    pair.check_whole()


def _fails_the_second_time() -> Callable[[Source], None]:
    """As when the leader goes away while pg_rewind reads from it."""
    real = Source.check_writable
    calls = 0

    def check_writable(source: Source) -> None:
        nonlocal calls
        calls += 1
        real(source)
        if calls == 2:
            raise NoLeader("gone")

    return check_writable


def test_a_rewind_that_fails_after_it_has_begun_to_write_is_followed_by_a_clone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = _limited_programs(pair, "pg_rewind")
    monkeypatch.setattr(Postgres, "program", lambda _, name: limited / name)
    assert pair.prepare() is Outcome.CLONED
    assert (limited / "ran").read_text() == "once\n"
    pair.check_whole()


def _limited_programs(pair: Pair, limited: str) -> Path:
    """The programs, of which one can't write more than a megabyte to any file."""
    real: Path = pair.new.postgres.bindir
    directory: Path = pair.old.paths.pgdata.parent.with_name("bin")
    pair.old.owner.make_directory(directory)
    for program in real.iterdir():
        if program.name != limited:
            (directory / program.name).symlink_to(program)
    script = directory / limited
    script.write_text(
        f"#!/bin/sh\necho once >> {directory}/ran\nulimit -c 0\nulimit -f 2048\n"
        f'exec {real}/{limited} "$@"\n'
    )
    script.chmod(0o755)
    return directory


def test_without_hint_bits_in_the_wal_a_node_is_cloned(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Postgres.control_data

    def control_data(*arguments: Any) -> Any:
        return replace(real(*arguments), tracks_hints=False)

    monkeypatch.setattr(Postgres, "control_data", control_data)
    monkeypatch.setattr(rewind, "run_pg_rewind", None)  # not even tried
    assert pair.prepare() is Outcome.CLONED
    pair.check_whole()


def test_programs_of_a_prepare_that_was_killed_are_ended(pair: Pair) -> None:
    """They hold its lock file open, and would write into what the next attempt works on."""
    with exclusive(pair.old.paths, print) as lock:
        owner = replace(pair.old.owner, inherited=(lock,))
        child = subprocess.Popen(["sleep", "600"], **owner.popen_arguments())
        with pytest.raises(SetupError, match="another"):
            prepare_elsewhere(pair)
    assert child.poll() is None
    assert pair.prepare() is Outcome.REWOUND
    assert child.wait(10) == -signal.SIGTERM
    pair.check_whole()


def prepare_elsewhere(pair: Pair) -> None:
    """In another process, which must not end this one."""
    result = subprocess.run(
        [sys.executable, "-m", "pgraft", "prepare", "-D", str(pair.old.paths.pgdata)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode != 0:
        raise SetupError(result.stderr)


def test_a_rewind_waits_until_the_leader_accepts_writes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session would be ended when a leader that had lost its lease gets one again."""
    name = "default_transaction_read_only"

    def let_it_be(setting: str) -> None:
        pair.new.query(f"ALTER SYSTEM SET {name} = {setting}")
        pair.new.query("SELECT pg_reload_conf()")
        wait_for(lambda: pair.new.query(f"SHOW {name}") == [(setting,)], 60, f"{name} {setting}")

    calls = []

    def find_source(*_: Any) -> Source:
        calls.append(pair.new.query(f"SHOW {name}"))
        if len(calls) == 2:
            let_it_be("off")
        return pair.source()

    monkeypatch.setattr(prepare_module, "find_source", find_source)
    let_it_be("on")
    assert pair.prepare() is Outcome.REWOUND
    assert calls == [[("on",)], [("on",)]]
    pair.check_whole()


def test_a_rewound_node_whose_wal_the_source_has_removed_is_cloned(pair: Pair) -> None:
    real = rewind.run_pg_rewind

    def rewind_and_remove(*arguments: Any) -> None:
        real(*arguments)
        label = (pair.old.paths.pgdata / "backup_label").read_text()
        first = label.split("(file ")[1].split(")")[0]
        (pair.old.paths.pgdata / "pg_wal" / first).unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "run_pg_rewind", rewind_and_remove)
        assert pair.prepare() is Outcome.CLONED
    pair.check_whole()


def test_a_server_stopped_in_mid_replay_is_replayed_to_its_end_before_the_rewind(
    pair: Pair,
) -> None:
    """Its control file says "shut down in recovery", and its pages may be newer than that says."""
    paths = pair.old.paths
    clone.ensure_standby(pair.old.owner, paths.pgdata)
    replay = rewind._wait_until_replayed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "_wait_until_replayed", lambda process, log, _: _starts(process, log))
        rewind.shut_down_cleanly(pair.old.postgres, pair.old.owner, paths, print, 60)
    assert rewind._wait_until_replayed is replay
    state = pair.old.postgres.control_data(pair.old.owner, paths.pgdata).state
    assert state == "shut down in recovery"
    assert pair.prepare() is Outcome.REWOUND
    pair.check_whole()


def _starts(_process: Any, log: Path) -> bool:
    """Waits only until recovery has begun."""
    return bool(wait_for(lambda: "entering standby mode" in log.read_text(), 60, "recovery"))


def test_own_settings_survive(pair: Pair) -> None:
    auto_conf = pair.old.paths.auto_conf
    durable.write_file(pair.old.owner, auto_conf, "work_mem = '3MB'\n")
    pair.new.query("ALTER SYSTEM SET work_mem = '5MB'")
    pair.new.query("ALTER SYSTEM SET port = 1")
    pair.prepare()
    assert auto_conf.read_text() == "work_mem = '3MB'\n"
    pair.check_whole()
    assert pair.old.query("SHOW work_mem") == [("3MB",)]


@pytest.mark.parametrize(
    ("mode", "module", "function", "when"),
    [
        ("REWIND", clone, "keep_configuration", "before"),
        ("REWIND", rewind, "shut_down_cleanly", "after"),
        ("REWIND", rewind, "keep_wal", "after"),
        ("REWIND", rewind, "run_pg_rewind", "before"),
        ("REWIND", rewind, "run_pg_rewind", "after"),
        ("REWIND", clone, "localize", "after"),
        ("REWIND", clone, "finish", "after"),
        ("CLONE", clone, "base_backup", "after"),
        ("CLONE", clone, "finish", "after"),
        ("CLONE", clone, "swap_in", "after"),
        ("CLONE", clone, "retire", "after"),
    ],
)
def test_an_interruption_anywhere_is_harmless(
    pair: Pair, mode: str, module: Any, function: str, when: str
) -> None:
    pair.request(getattr(_pgraft.RejoinMode, mode))
    real = getattr(module, function)
    interrupted = False

    def interrupt(*arguments: Any, **keywords: Any) -> Any:
        nonlocal interrupted
        if not interrupted and when == "after":
            real(*arguments, **keywords)
        interrupted = True
        raise Interrupted

    pair.prepare_interrupted(module, function, interrupt)
    assert interrupted


def test_an_interruption_between_the_two_renames_of_a_swap_is_harmless(pair: Pair) -> None:
    pair.request(_pgraft.RejoinMode.CLONE)
    real = durable.rename

    def interrupt(source: Path, target: Path) -> None:
        if target == pair.old.paths.pgdata:
            assert not target.exists()
            raise Interrupted
        real(source, target)

    pair.prepare_interrupted(durable, "rename", interrupt)


def test_a_swap_whose_clone_is_gone_is_undone(pair: Pair) -> None:
    paths = pair.old.paths
    rejoin = read_rejoin(paths)
    assert rejoin is not None
    rejoin.state = _pgraft.RejoinState.WORKING
    rejoin.mode = _pgraft.RejoinMode.CLONE
    rejoin.binding = 1234
    _pgraft.write_rejoin(str(paths.data_dir), rejoin)
    paths.pgdata.rename(paths.replaced)
    assert pair.prepare() is Outcome.CLONED
    pair.check_whole()


def test_nothing_is_touched_before_the_rejoin_file_says_so(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 3: the marker is durable before the first byte."""

    def look(*_: Any) -> None:
        rejoin = read_rejoin(pair.old.paths)
        assert rejoin is not None
        assert rejoin.state == _pgraft.RejoinState.WORKING
        raise Interrupted

    monkeypatch.setattr(rewind, "shut_down_cleanly", look)
    with pytest.raises(Interrupted):
        pair.prepare()


def test_a_source_that_dies_is_replaced_by_the_next_leader(pair: Pair) -> None:
    pair.sources = [pair.source(port=1), pair.source()]
    assert pair.prepare() is Outcome.REWOUND
    pair.check_whole()


def test_without_a_leader_nothing_is_erased(pair: Pair) -> None:
    pair.sources = [pair.source(port=1)]
    with pytest.raises(NoLeader):
        prepare(pair.old.paths, timeout=1)
    pair.sources = [pair.source()]
    assert pair.prepare() is Outcome.REWOUND
    pair.check_whole()


def test_a_running_server_is_left_alone(pair: Pair) -> None:
    (pair.old.paths.data_dir / "rejoin").unlink()
    pair.old.start()
    with pytest.raises(SetupError, match="runs in"):
        pair.prepare()


def test_a_member_always_starts_as_a_standby(pair: Pair) -> None:
    """Rule 1."""
    (pair.old.paths.data_dir / "rejoin").unlink()
    assert not pair.old.paths.standby_signal.exists()
    assert pair.prepare() is Outcome.NOTHING
    assert pair.old.paths.standby_signal.exists()


# --- whom not to rejoin from ---


def replaced_source(pair: Pair, source_node: int) -> None:
    """Node 1 knows that timeline 3 was promoted; node 2, on timeline 2, does not."""
    data_dir = str(pair.old.paths.data_dir)
    timelines = _pgraft.TimelinesFile()
    timelines.max = timelines.current = 3
    _pgraft.write_timelines(data_dir, timelines)
    rejoin = _pgraft.read_rejoin(data_dir)
    rejoin.source_node = source_node
    _pgraft.write_rejoin(data_dir, rejoin)


def test_a_source_that_was_replaced_is_refused(pair: Pair) -> None:
    """Rule 3: it lacks what node 1 may have acknowledged since."""
    replaced_source(pair, source_node=0)  # an operator's request
    with pytest.raises(NoLeader, match="timeline 2, not on 3 or later"):
        prepare(pair.old.paths, timeout=0.5)
    rejoin = read_rejoin(pair.old.paths)
    assert rejoin is not None
    assert rejoin.state == _pgraft.RejoinState.REQUESTED


def test_what_was_only_asked_for_is_left_for_later(pair: Pair) -> None:
    replaced_source(pair, source_node=2)
    pair.old.paths.standby_signal.unlink(missing_ok=True)
    assert prepare(pair.old.paths, timeout=0.5) is Outcome.NOTHING
    rejoin = read_rejoin(pair.old.paths)
    assert rejoin is not None
    assert rejoin.state == _pgraft.RejoinState.REQUESTED
    assert pair.old.paths.standby_signal.exists()
