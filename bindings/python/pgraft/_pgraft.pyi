"""The compiled part of pgraft: running nodes, questions to nodes, and the member files."""

from enum import Enum
from types import TracebackType
from typing import Self, TypedDict

class Error(Exception):
    """What pgraft raises."""

class InvalidArgument(Error):
    """The input is malformed or out of range."""

class NotLeader(Error):
    """Only the leader can do this; the message names it."""

class NoQuorum(Error):
    """Too few members answer."""

class Timeout(Error):
    """The outcome is unknown."""

class NotFound(Error):
    """There is no such member, key or file."""

class AlreadyExists(Error):
    """The member exists already."""

class FailedPrecondition(Error):
    """Something else must come first."""

class Mismatch(Error):
    """An identity differs: cluster, node, database or format."""

class ResourceExhausted(Error):
    """A bound was reached."""

class Corruption(Error):
    """Stored or received data is damaged."""

class IoError(Error):
    """The operating system said no."""

class Unavailable(Error):
    """The other side can't be reached, or stops."""

class Aborted(Error):
    """Given up, since something newer took its place."""

class MemberDict(TypedDict):
    """A member's addresses."""

    id: int
    incarnation: int
    name: str
    address: str
    port: int
    pg_host: str
    pg_port: int

class IdentityDict(TypedDict):
    """Who a node is."""

    cluster_name: str
    cluster_id: int
    node_id: int
    incarnation: int
    system_identifier: int
    member: MemberDict
    version: str

class MemberStatusDict(TypedDict):
    """A member as a node knows it; the last three are the leader's view."""

    member: MemberDict
    voter: bool
    learner: bool
    answering: bool
    match_index: int
    flush_lsn: int

class ClusterStatusDict(TypedDict):
    """One node's view of its cluster."""

    identity: IdentityDict
    state: str
    term: int
    leader_id: int
    writable: bool
    commit_index: int
    applied_index: int
    last_index: int
    timeline: int
    lsn: int
    in_recovery: bool
    abstaining: bool
    phase: str
    messages_processed: int
    heartbeats_sent: int
    elections_triggered: int
    promoted_timeline: int
    members: list[MemberStatusDict]

class RejoinState(Enum):
    """How far a rejoin is."""

    REQUESTED = 0
    WORKING = 1
    CATCHING_UP = 2

class RejoinMode(Enum):
    """How the data directory is made to fit."""

    REWIND = 0
    CLONE = 1

class IdentityFile:
    """The file `identity` beside the Raft log."""

    cluster_name: str
    cluster_id: int
    node_id: int
    incarnation: int
    system_identifier: int
    binding: int
    def __init__(self) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

class BindingFile:
    """The file `pgraft.binding` in a PostgreSQL data directory."""

    node_id: int
    incarnation: int
    binding: int
    def __init__(self) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

class RejoinFile:
    """The file `rejoin` beside the Raft log; `target` is (timeline, LSN)."""

    state: RejoinState
    mode: RejoinMode
    source_node: int
    source_host: str
    source_port: int
    target: tuple[int, int]
    binding: int
    reason: str
    def __init__(self) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

class TimelinesFile:
    """The file `timelines` beside the Raft log; `history` holds (timeline, end LSN)."""

    max: int
    current: int
    history: list[tuple[int, int]]
    def __init__(self) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

class Member:
    """A line of the file `members` beside the Raft log."""

    id: int
    incarnation: int
    name: str
    address: str
    port: int
    pg_host: str
    pg_port: int
    def __init__(self) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

class Binding:
    """What `bind` found or made."""

    @property
    def identity(self) -> IdentityFile: ...
    @property
    def created(self) -> bool: ...
    @property
    def rejoin(self) -> RejoinFile | None: ...

def read_identity(data_dir: str) -> IdentityFile: ...
def write_identity(data_dir: str, file: IdentityFile) -> None: ...
def read_binding(pgdata: str) -> BindingFile: ...
def write_binding(pgdata: str, file: BindingFile) -> None: ...
def read_rejoin(data_dir: str) -> RejoinFile: ...
def write_rejoin(data_dir: str, file: RejoinFile) -> None: ...
def remove_rejoin(data_dir: str) -> None: ...
def read_timelines(data_dir: str) -> TimelinesFile: ...
def write_timelines(data_dir: str, file: TimelinesFile) -> None: ...
def read_members(data_dir: str) -> list[Member]: ...
def write_members(data_dir: str, members: list[Member]) -> None: ...
def bind(
    data_dir: str, pgdata: str, node_id: int, cluster_name: str, system_identifier: int
) -> Binding: ...
def random_id() -> int: ...
def query_status(host: str, port: int, timeout: float = 1.0) -> ClusterStatusDict: ...
def query_identity(host: str, port: int, timeout: float = 1.0) -> IdentityDict: ...

class Node:
    """A running node without a database: Raft, the key-value store and the log.

    Times are in seconds. A request returns when a majority has it, or raises; `Timeout` means that
    its outcome is unknown.
    """

    def __init__(
        self,
        *,
        node_id: int,
        data_dir: str,
        cluster_name: str = "pgraft",
        node_name: str = "",
        listen_address: str = "127.0.0.1",
        listen_port: int = 0,
        advertise_address: str = "",
        heartbeat_interval: float = 0.1,
        election_timeout: float = 1.0,
        max_log_entries: int = 1000,
        request_timeout: float = 10.0,
        seed: int = 0,
    ) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    @property
    def running(self) -> bool: ...
    @property
    def node_id(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def is_member(self) -> bool: ...
    def status(self) -> ClusterStatusDict: ...
    def init(self, *, timeout: float = 10.0) -> int: ...
    def add_node(
        self, host: str, port: int, *, node_id: int = 0, timeout: float = 10.0
    ) -> None: ...
    def remove_node(self, node_id: int, *, timeout: float = 10.0) -> None: ...
    def transfer_leadership(self, node_id: int = 0, *, timeout: float = 10.0) -> None: ...
    def kv_put(self, key: str | bytes, value: str | bytes, *, timeout: float = 10.0) -> int: ...
    def kv_get(self, key: str | bytes) -> bytes: ...
    def kv_delete(self, key: str | bytes, *, timeout: float = 10.0) -> int: ...
    def log_append(self, data: str | bytes, *, timeout: float = 10.0) -> int: ...
