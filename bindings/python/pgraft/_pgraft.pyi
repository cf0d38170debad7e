"""The compiled part of pgraft: the Raft core, running nodes, questions to nodes, member files."""

from collections.abc import Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self, TypedDict

__version__: Final[str]

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

class NoSpace(Error):
    """The disk is full."""

class InvariantError(Error):
    """An invariant of Raft is broken.

    The storage is not what the node has handed out, two leaders acted in one term, or a rule was
    switched off. The `RawNode` refuses every later call.
    """

class MemberDict(TypedDict):
    """A member's addresses."""

    id: int
    incarnation: int
    name: str
    address: str
    port: int
    pg_host: str
    pg_port: int
    nosync: bool

class IdentityDict(TypedDict):
    """Who a node is."""

    cluster_name: str
    cluster_id: int
    node_id: int
    incarnation: int
    system_identifier: int
    member: MemberDict
    version: str

class WalStatusDict(TypedDict):
    """Where a member's WAL is, as it told about once a second; LSNs are byte positions."""

    in_recovery: bool
    timeline: int
    lsn: int
    replayed_timeline: int
    replayed_lsn: int
    needed_lsn: int
    oldest_lsn: int
    priority: int

class MemberStatusDict(TypedDict):
    """A member as a node knows it; `answering` to `flush_lsn` are the leader's view."""

    member: MemberDict
    voter: bool
    learner: bool
    answering: bool
    match_index: int
    flush_lsn: int
    waits_for: str
    wal: WalStatusDict | None

class PromotionDict(TypedDict):
    """A completed promotion; `switch_lsn`: where its timeline begins."""

    term: int
    node_id: int
    timeline: int
    switch_lsn: int

class RejoinStatusDict(TypedDict):
    """Who joins or rejoins, as the leader that it copies from sees it; bytes 0: not known."""

    node_id: int
    phase: str
    bytes_done: int
    bytes_total: int
    seconds: int

class StatusMoreDict(TypedDict):
    """What versions before 0.2.0 don't answer; `idle_ms` is by member, and the leader's view.

    `paused_until_ms` is since 1970, and may be over; 0: never paused.
    """

    fenced: bool
    lease_ms: int
    paused_until_ms: int
    paused_by: str
    switchover_to: int
    idle_ms: dict[int, int]
    rejoins: list[RejoinStatusDict]

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
    change_waits_for: str
    messages_processed: int
    heartbeats_sent: int
    elections_triggered: int
    promoted_timeline: int
    members: list[MemberStatusDict]
    promotions: list[PromotionDict]
    more: StatusMoreDict | None

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
def request_rejoin(data_dir: str, wanted: RejoinFile) -> None: ...
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
    its outcome is unknown. `without_data`: of a member whose database is being rewound or cloned,
    with its `system_identifier`; it votes, and does nothing else.
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
        system_identifier: int = 0,
        without_data: bool = False,
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
    def read_barrier(self, *, timeout: float = 10.0) -> None:
        """Returns once all that was committed when it was asked is applied on this node.

        A `kv_get` after it sees every request that was answered before, through whichever node: it
        is linearizable. Through a follower the leader is asked.

        Raises `Timeout` when no leader confirmed it; nothing was read.
        """

    def log_append(self, data: str | bytes, *, timeout: float = 10.0) -> int: ...

# --- the Raft core: values. All are immutable; `replace()` makes a changed copy.

class Role(Enum):
    """What a node is in its term."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3

class EntryType(Enum):
    """How an entry is applied."""

    NORMAL = 0
    CONF_CHANGE = 1

class ConfChangeType(Enum):
    """What happens to one member. UPDATE concerns only what the application keeps of it."""

    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2
    UPDATE = 3

class ConfChangeTransition(Enum):
    """Whether a change goes through a joint configuration, and how that is left.

    AUTO: joint only for more than one change, left automatically. IMPLICIT: joint, left
    automatically. EXPLICIT: joint, left by an empty `ConfChange`.
    """

    AUTO = 0
    IMPLICIT = 1
    EXPLICIT = 2

class MessageType(Enum):
    """Kinds of messages; those named STORAGE_... stay between a node and its storage."""

    APPEND = 0
    APPEND_RESPONSE = 1
    VOTE = 2
    VOTE_RESPONSE = 3
    PRE_VOTE = 4
    PRE_VOTE_RESPONSE = 5
    HEARTBEAT = 6
    HEARTBEAT_RESPONSE = 7
    SNAPSHOT = 8
    TIMEOUT_NOW = 9
    PROPOSE = 10
    TRANSFER_LEADER = 11
    READ_INDEX = 12
    READ_INDEX_RESPONSE = 13
    STORAGE_APPEND = 14
    STORAGE_APPEND_RESPONSE = 15
    STORAGE_APPLY = 16
    STORAGE_APPLY_RESPONSE = 17

class ProgressState(Enum):
    """How a leader sends to a member.

    PROBE: one message at a time, until it is known where the logs agree. REPLICATE: pipelined.
    SNAPSHOT: nothing, until the snapshot is reported.
    """

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2

class ReadOnly(Enum):
    """How `read_index` is answered.

    SAFE: after a round of heartbeats. LEASE_BASED: at once while the lease lives, which trusts that
    ticks pass equally fast on all nodes.
    """

    SAFE = 0
    LEASE_BASED = 1

class VoteResult(Enum):
    """Where an election stands."""

    PENDING = 0
    LOST = 1
    WON = 2

class Entry:
    """A log entry. The data of a CONF_CHANGE is what `ConfChange.decode` takes."""

    __match_args__ = ("index", "term", "type", "data")
    def __init__(
        self,
        index: int = 0,
        term: int = 0,
        type: EntryType = ...,  # noqa: A002
        data: bytes = b"",
    ) -> None: ...
    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def type(self) -> EntryType: ...
    @property
    def data(self) -> bytes: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class ConfChangeSingle:
    """What happens to one member.

    A node that is added with an incarnation is known by it from then on: messages of another
    incarnation of its id are dropped. 0: any.
    """

    __match_args__ = ("type", "node_id", "incarnation")
    def __init__(
        self,
        type: ConfChangeType,  # noqa: A002
        node_id: int,
        incarnation: int = 0,
    ) -> None: ...
    @property
    def type(self) -> ConfChangeType: ...
    @property
    def node_id(self) -> int: ...
    @property
    def incarnation(self) -> int: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class ConfChange:
    """A change of the configuration; without changes it leaves a joint one.

    `context` is the application's. `encode` and `decode` are the form in an entry's data;
    `decode` raises `Corruption` for what is no change.
    """

    __match_args__ = ("changes", "transition", "context")
    def __init__(
        self,
        changes: Sequence[ConfChangeSingle] = (),
        *,
        transition: ConfChangeTransition = ...,
        context: bytes = b"",
    ) -> None: ...
    @property
    def changes(self) -> tuple[ConfChangeSingle, ...]: ...
    @property
    def transition(self) -> ConfChangeTransition: ...
    @property
    def context(self) -> bytes: ...
    def encode(self) -> bytes: ...
    @staticmethod
    def decode(data: bytes) -> ConfChange: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class ConfState:
    """The members of a cluster as of some index; ids are sorted.

    While `voters_outgoing` is not empty the configuration is joint: majorities of both must agree.
    Those of `learners_next` become learners when it is left. `incarnations`: of each member whose
    incarnation is known.
    """

    __match_args__ = (
        "voters",
        "learners",
        "voters_outgoing",
        "learners_next",
        "auto_leave",
        "incarnations",
    )
    def __init__(
        self,
        voters: Sequence[int] = (),
        learners: Sequence[int] = (),
        voters_outgoing: Sequence[int] = (),
        learners_next: Sequence[int] = (),
        auto_leave: bool = False,
        incarnations: dict[int, int] = ...,
    ) -> None: ...
    @property
    def voters(self) -> tuple[int, ...]: ...
    @property
    def learners(self) -> tuple[int, ...]: ...
    @property
    def voters_outgoing(self) -> tuple[int, ...]: ...
    @property
    def learners_next(self) -> tuple[int, ...]: ...
    @property
    def auto_leave(self) -> bool: ...
    @property
    def incarnations(self) -> Mapping[int, int]: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class Snapshot:
    """The state machine as of an entry: its index and term, the configuration, and the data."""

    __match_args__ = ("index", "term", "conf", "data")
    def __init__(
        self, index: int = 0, term: int = 0, conf: ConfState = ..., data: bytes = b""
    ) -> None: ...
    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def conf(self) -> ConfState: ...
    @property
    def data(self) -> bytes: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class HardState:
    """What must be durable before a message that depends on it is sent; vote 0: for nobody."""

    __match_args__ = ("term", "vote", "commit")
    def __init__(self, term: int = 0, vote: int = 0, commit: int = 0) -> None: ...
    @property
    def term(self) -> int: ...
    @property
    def vote(self) -> int: ...
    @property
    def commit(self) -> int: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class SoftState:
    """What need not be stored; leader 0: none is known."""

    __match_args__ = ("leader", "role")
    def __init__(self, leader: int = 0, role: Role = ...) -> None: ...
    @property
    def leader(self) -> int: ...
    @property
    def role(self) -> Role: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class ReadState:
    """The answer to the `read_index` with this context.

    A state machine that has applied `index` shows all that was acknowledged before the question.
    """

    __match_args__ = ("index", "context")
    @property
    def index(self) -> int: ...
    @property
    def context(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...

class ProgressView:
    """The leader's view of one member.

    `match`: stored there for certain; `next`: sent next; `recent_active`: heard since the last
    quorum check; `idle_ticks`: since its last response in this term.
    """

    __match_args__ = ("match", "next", "state", "recent_active", "is_learner", "idle_ticks")
    @property
    def match(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def state(self) -> ProgressState: ...
    @property
    def recent_active(self) -> bool: ...
    @property
    def is_learner(self) -> bool: ...
    @property
    def idle_ticks(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

APPEND_THREAD: Final[int]
"""Receiver of STORAGE_APPEND."""
APPLY_THREAD: Final[int]
"""Receiver of STORAGE_APPLY."""

class Message:
    """What nodes, and a node and its storage, say to each other.

    Which fields count depends on the type. `index` and `log_term`: the entry before `entries`
    (APPEND), the candidate's last entry (votes), the last entry that matches (responses), the
    target's id (TRANSFER_LEADER). `reject_hint`: where a follower's log may match. `transfer`: a
    vote that the leader asked for. `stamp`: ticks of the sender, echoed in the response.
    STORAGE_APPEND: `term`, `vote` and `commit` are the hard state to be stored, unless term is 0;
    `responses` are due when all of the message is durable, or applied (STORAGE_APPLY).
    """

    __match_args__ = (
        "type",
        "from_",
        "to",
        "term",
        "log_term",
        "index",
        "entries",
        "commit",
        "vote",
        "reject",
        "reject_hint",
        "transfer",
        "context",
        "snapshot",
        "responses",
        "from_incarnation",
        "to_incarnation",
        "stamp",
    )
    def __init__(
        self,
        type: MessageType,  # noqa: A002
        *,
        from_: int = 0,
        to: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: Sequence[Entry] = (),
        commit: int = 0,
        vote: int = 0,
        reject: bool = False,
        reject_hint: int = 0,
        transfer: bool = False,
        context: bytes = b"",
        snapshot: Snapshot | None = None,
        responses: Sequence[Message] = (),
        from_incarnation: int = 0,
        to_incarnation: int = 0,
        stamp: int = 0,
    ) -> None: ...
    @property
    def type(self) -> MessageType: ...
    @property
    def from_(self) -> int: ...
    @property
    def to(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def log_term(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def entries(self) -> tuple[Entry, ...]: ...
    @property
    def commit(self) -> int: ...
    @property
    def vote(self) -> int: ...
    @property
    def reject(self) -> bool: ...
    @property
    def reject_hint(self) -> int: ...
    @property
    def transfer(self) -> bool: ...
    @property
    def context(self) -> bytes: ...
    @property
    def snapshot(self) -> Snapshot | None: ...
    @property
    def responses(self) -> tuple[Message, ...]: ...
    @property
    def from_incarnation(self) -> int: ...
    @property
    def to_incarnation(self) -> int: ...
    @property
    def stamp(self) -> int: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class Ready:
    """What a node wants done, in this order.

    Attributes:
        hard_state: To be stored; None when it has not changed.
        snapshot: To be stored, and restored by the state machine, before the entries.
        entries: To be stored; they replace what the log has at and after their first index.
        messages: To be sent, once the above is stored.
        committed_entries: To be applied in order.
        read_states: Answers to `read_index`.
        soft_state: Leader and role; None when they have not changed.
        must_sync: The write must be synced before a message is sent.

    With asynchronous storage all that is to be stored or applied is in messages to APPEND_THREAD
    and APPLY_THREAD, and the other messages may be sent at once.
    """

    __match_args__ = (
        "soft_state",
        "hard_state",
        "entries",
        "snapshot",
        "committed_entries",
        "messages",
        "read_states",
        "must_sync",
    )
    @property
    def soft_state(self) -> SoftState | None: ...
    @property
    def hard_state(self) -> HardState | None: ...
    @property
    def entries(self) -> tuple[Entry, ...]: ...
    @property
    def snapshot(self) -> Snapshot | None: ...
    @property
    def committed_entries(self) -> tuple[Entry, ...]: ...
    @property
    def messages(self) -> tuple[Message, ...]: ...
    @property
    def read_states(self) -> tuple[ReadState, ...]: ...
    @property
    def must_sync(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...

class NodeStatus:
    """A node's view of itself and its cluster.

    `vote`, `leader`, `transferee` (of a transfer under way): 0 is nobody. `conf`: as applied.
    `progress`: a leader's view of each member; empty on the others.
    """

    __match_args__ = (
        "id",
        "term",
        "vote",
        "commit",
        "leader",
        "role",
        "applied",
        "last_index",
        "transferee",
        "conf",
        "progress",
    )
    @property
    def id(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def vote(self) -> int: ...
    @property
    def commit(self) -> int: ...
    @property
    def leader(self) -> int: ...
    @property
    def role(self) -> Role: ...
    @property
    def applied(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def transferee(self) -> int: ...
    @property
    def conf(self) -> ConfState: ...
    @property
    def progress(self) -> Mapping[int, ProgressView]: ...
    def __eq__(self, other: object, /) -> bool: ...

class Switches:
    """Rules of Raft that a negative control switches off, to see that a test notices. Tests only.

    Args:
        one_vote_a_term: Section 5.2.
        complete_log: 5.4.1: votes only for a log that is as up to date.
        consistency_check: 5.3: appends only after an entry that agrees.
        own_term_commit: 5.4.2: commits by counting only entries of the current term.
        apply_committed: 5.3: applies only what the leader says is committed.
        both_majorities: 6: a joint configuration decides with both.
        one_change: The change before is applied first.
        campaign_after_apply: Nobody campaigns with a committed change that is not applied.
        vote_with_configuration: A node without a configuration does not vote.
        read_quorum: Reads are answered after a round of heartbeats.
        read_after_own_commit: ... and after the first commit of the leader's term.
        transfer_ends_lease: Thesis 6.4.1: no lease in a term with a transfer order.
        lease_binds_voters: ... and no vote inside a lease, also after a restart.
    """

    __match_args__ = (
        "one_vote_a_term",
        "complete_log",
        "consistency_check",
        "own_term_commit",
        "apply_committed",
        "both_majorities",
        "one_change",
        "campaign_after_apply",
        "vote_with_configuration",
        "read_quorum",
        "read_after_own_commit",
        "transfer_ends_lease",
        "lease_binds_voters",
    )
    def __init__(
        self,
        *,
        one_vote_a_term: bool = True,
        complete_log: bool = True,
        consistency_check: bool = True,
        own_term_commit: bool = True,
        apply_committed: bool = True,
        both_majorities: bool = True,
        one_change: bool = True,
        campaign_after_apply: bool = True,
        vote_with_configuration: bool = True,
        read_quorum: bool = True,
        read_after_own_commit: bool = True,
        transfer_ends_lease: bool = True,
        lease_binds_voters: bool = True,
    ) -> None: ...
    @property
    def one_vote_a_term(self) -> bool: ...
    @property
    def complete_log(self) -> bool: ...
    @property
    def consistency_check(self) -> bool: ...
    @property
    def own_term_commit(self) -> bool: ...
    @property
    def apply_committed(self) -> bool: ...
    @property
    def both_majorities(self) -> bool: ...
    @property
    def one_change(self) -> bool: ...
    @property
    def campaign_after_apply(self) -> bool: ...
    @property
    def vote_with_configuration(self) -> bool: ...
    @property
    def read_quorum(self) -> bool: ...
    @property
    def read_after_own_commit(self) -> bool: ...
    @property
    def transfer_ends_lease(self) -> bool: ...
    @property
    def lease_binds_voters(self) -> bool: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

# --- the Raft core: a node and its storage

class MemoryStorage:
    """The log of a `RawNode`, in memory. It outlives the node: a new node on it is a restart.

    Starts empty: a node on it has no members until a leader sends it some. `apply_snapshot` of an
    empty state with a configuration makes a first member.
    """

    def __init__(self) -> None: ...
    def hard_state(self) -> HardState: ...
    def set_hard_state(self, hard_state: HardState) -> None: ...
    def first_index(self) -> int:
        """Of the first entry that is kept: one more than the last when there is none."""

    def last_index(self) -> int:
        """Of the last entry, or of what was dropped before the first; 0 in an empty storage."""

    def term(self, index: int) -> int:
        """Of the entry, or of the one before the first; raises `NotFound` for others."""

    def entries(self, lo: int, hi: int, max_size: int | None = None) -> tuple[Entry, ...]:
        """Those that are there from `lo` to before `hi`.

        Args:
            lo: Raises `NotFound` when it is before the first entry.
            hi: May be beyond the last entry.
            max_size: Bytes of data; one entry is returned whatever its size.
        """

    def append(self, entries: Sequence[Entry]) -> None:
        """Replaces what the log has at and after the first of them.

        Raises `InvalidArgument` if that would leave a gap, or change what the snapshot covers.
        """

    def snapshot(self) -> Snapshot:
        """The newest; index 0 when there is none."""

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces the log. Raises `InvalidArgument` when it is behind what is here."""

    def create_snapshot(self, index: int, conf: ConfState, data: bytes = b"") -> Snapshot:
        """Saves the state machine as of `index`, which must be committed; the log stays."""

    def compact(self, index: int) -> None:
        """Drops the entries up to `index`, which must be applied and covered by the snapshot."""

class RawNode:
    """One member of a Raft group as a deterministic state machine: no clock, no network, no disk.

    The caller passes time on with `tick` and messages with `step`. Whenever `has_ready()`, it calls
    `ready`, does what is in it in the order given there, and calls `advance`. Docs:
    docs/raw_node.md.

    A call at the wrong time raises `FailedPrecondition`. `InvariantError`: Raft is broken; this
    node refuses every call from then on, and a new one may be made on its storage, which replaces
    this one in any case. One thread may use it at a time.

    Args:
        id: Of this node; not 0.
        storage: Holds what earlier nodes on it have stored.
        election_tick: A follower campaigns after a random number of ticks in
            [election_tick, 2 * election_tick - 1] without a leader; a leader that has not heard
            from a quorum for so long steps down.
        heartbeat_tick: Ticks between a leader's heartbeats; less than election_tick.
        max_size_per_msg: Bytes of entry data in one APPEND; 0: one entry each.
        max_inflight_msgs: APPEND messages on their way to one follower.
        max_inflight_bytes: Their bytes of data; 0: no limit.
        max_uncommitted_size: Bytes of proposals that are not applied yet; what is beyond is refused
            with `ResourceExhausted`. 0: no limit.
        max_committed_size_per_ready: Bytes of data in `Ready.committed_entries`; 0: no limit.
        pre_vote: Ask whether an election could be won before disturbing the leader.
        check_quorum: A leader without a quorum steps down; a voter that hears a leader ignores
            candidates.
        read_only: How `read_index` is answered; LEASE_BASED needs check_quorum.
        async_storage_writes: What is to be stored and applied comes as messages: see `step`.
        disable_conf_change_validation: Tests only.
        step_down_on_removal: A leader that is removed becomes a follower.
        applied: Last entry that the state machine holds already, after a restart. What the
            storage's snapshot covers counts as applied.
        priority: 0 to 100. Less waits longer before it campaigns; 0 never does by itself.
        seed: Of the random election timeouts.
        incarnation: Of this node's storage; 0: not checked.
        rules: Tests only.
    """

    def __init__(
        self,
        id: int,  # noqa: A002
        storage: MemoryStorage,
        *,
        election_tick: int = 10,
        heartbeat_tick: int = 1,
        max_size_per_msg: int = 1048576,
        max_inflight_msgs: int = 256,
        max_inflight_bytes: int = 0,
        max_uncommitted_size: int = 67108864,
        max_committed_size_per_ready: int = 8388608,
        pre_vote: bool = True,
        check_quorum: bool = True,
        read_only: ReadOnly = ...,
        async_storage_writes: bool = False,
        disable_conf_change_validation: bool = False,
        step_down_on_removal: bool = True,
        applied: int = 0,
        priority: int = 100,
        seed: int = 0,
        incarnation: int = 0,
        rules: Switches = ...,
    ) -> None: ...

    # What drives it.
    def tick(self) -> None:
        """Time passes: one tick."""

    def step(self, message: Message) -> None:
        """A message has arrived.

        With async_storage_writes also a response of this node's storage that is due: see
        `complete`. Raises `NotFound` for the response of a node that is no member, `Corruption` for
        what no correct node sends; the node is as before.
        """

    def complete(self, response: Message) -> None:
        """Storage work is done (async_storage_writes): a response to this node that is due.

        Work for APPEND_THREAD, and work for APPLY_THREAD, is done in the order in which it was
        handed out. Of a message to them the responses are due once all of it is done: those to
        this node to here, the others are sent.
        """

    def has_ready(self) -> bool: ...
    def ready(self) -> Ready:
        """What is to be done now. One at a time without async_storage_writes."""

    def advance(self) -> None:
        """The last `ready` has been dealt with; not with async_storage_writes.

        Raises `FailedPrecondition` when its snapshot or entries are not in the storage.
        """

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """A committed change takes effect; the configuration that results.

        Called for each CONF_CHANGE among the committed entries, when it is its turn. A change that
        is impossible has no effect.
        """

    # Requests.
    def campaign(self) -> None:
        """Starts an election; raises `FailedPrecondition` when this node may not."""

    def propose(self, data: bytes) -> None:
        """Appends an entry, here or at the leader; it may be lost until it is applied.

        Raises `NotLeader` when there is no leader or it hands over, `ResourceExhausted` beyond
        max_uncommitted_size.
        """

    def propose_conf_change(self, change: ConfChange) -> None:
        """As `propose`. A change that is not allowed now becomes an empty entry.

        Raises `InvalidArgument` for one that is impossible in the present configuration.
        """

    def read_index(self, context: bytes) -> None:
        """Asks from which index on the state machine shows all that was acknowledged until now.

        Answered with the context in `Ready.read_states`, or never: ask again after a while.
        """

    def transfer_leader(self, id: int) -> None:  # noqa: A002
        """The leader, or the one that this node follows, hands leadership to that voter.

        Given up after an election timeout.
        """

    def forget_leader(self) -> None:
        """A follower no longer counts its leader as alive, until it hears from it."""

    def step_down(self, hold_off_ticks: int = 0) -> None:
        """A leader becomes a follower that does not campaign for that long after its timeout."""

    # Reports and hints.
    def report_unreachable(self, id: int) -> None:  # noqa: A002
        """What was sent to that member is likely lost."""

    def report_snapshot(self, id: int, ok: bool) -> None:  # noqa: A002
        """The SNAPSHOT for that member was sent, or was not. Due for each."""

    def report_leader_lost(self, leader: int, delay_ticks: int = 0) -> None:
        """The connection to the leader broke: campaigns after that many ticks without it."""

    def set_election_delay(self, ticks: int) -> None:
        """Added to every election timeout from now on."""

    def set_priority(self, priority: int) -> None:
        """As the argument `priority`, from now on."""

    def set_randomized_election_timeout(self, ticks: int) -> None:
        """Until it is drawn anew, with the next change of term or role. Tests."""

    # What it is.
    def status(self) -> NodeStatus: ...
    @property
    def id(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def leader(self) -> int:
        """0: none is known."""

    @property
    def role(self) -> Role: ...
    @property
    def now_ticks(self) -> int:
        """Ticks since the start."""

    @property
    def quorum_ack_tick(self) -> int:
        """Own tick at or after which a quorum has answered what was sent; 0: not the leader."""

    @property
    def own_term_applied(self) -> bool:
        """It leads, and has applied an entry of its own term."""

    @property
    def conf_change_pending(self) -> bool:
        """The log holds a change that is not applied: no other one is admitted."""

# --- the Raft core: pure functions; pgraft.quorum and pgraft.confchange

UNLIMITED_INDEX: Final[int]
"""What an empty set of voters has acknowledged."""

def quorum_committed(
    voters: Sequence[int], acked: dict[int, int], *, outgoing: Sequence[int] = ()
) -> int:
    """The greatest index that a majority has acknowledged.

    Args:
        voters: Their ids.
        acked: Greatest index that each has acknowledged; 0 for those that are missing.
        outgoing: The other half of a joint configuration, of which a majority is needed too.
    """

def quorum_vote_result(
    voters: Sequence[int], votes: dict[int, bool], *, outgoing: Sequence[int] = ()
) -> VoteResult:
    """Whether an election is decided.

    Args:
        voters: Their ids.
        votes: True: granted, False: refused; voters that have not answered are missing.
        outgoing: The other half of a joint configuration, which must be won too.
    """

class Membership:
    """A configuration and the leader's view of each member.

    Args:
        conf: The configuration; raises `Corruption` when it contradicts itself.
        last_index: Of the leader's log: where the probing of each member starts.
    """

    __match_args__ = ("conf", "progress")
    def __init__(self, conf: ConfState = ..., last_index: int = 0) -> None: ...
    @property
    def conf(self) -> ConfState: ...
    @property
    def progress(self) -> Mapping[int, ProgressView]: ...
    def __eq__(self, other: object, /) -> bool: ...

class Changer:
    """The changes that a membership admits. They give the next one, or raise `InvalidArgument`.

    Args:
        membership: What is to be changed.
        last_index: Of the leader's log: where the probing of a new member starts.
    """

    def __init__(self, membership: Membership = ..., last_index: int = 0) -> None: ...
    def simple(self, changes: Sequence[ConfChangeSingle]) -> Membership:
        """Changes at most one voter: majorities before and after have a member in common."""

    def enter_joint(
        self, changes: Sequence[ConfChangeSingle], *, auto_leave: bool = False
    ) -> Membership:
        """Any changes; the configuration before goes on to decide with the new one."""

    def leave_joint(self) -> Membership:
        """The new configuration decides alone."""

    def change(self, change: ConfChange) -> Membership:
        """Whichever of the three it asks for."""

# --- the simulator; pgraft.sim gives these their names

SIM_FOCUSES: Final[tuple[str, ...]]
"""What a run can have more of than others; "none" is among them."""
SIM_RULES: Final[tuple[str, ...]]
"""What a negative control can switch off: the fields of `Switches`, and of the simulation
`incarnations` (a node that is made anew is told from the old one), `honest_disks` (a sync that is
reported as done is) and `write_then_answer` (votes and acknowledgements leave after their write).
"""

class OperationKind(Enum):
    """What a client asked for.

    APPEND: to what the key holds. CAS: compare and set.
    """

    GET = 0
    PUT = 1
    APPEND = 2
    CAS = 3
    DELETE = 4

class Operation:
    """One operation on a key as its client saw it. Immutable; `replace()` makes a changed copy.

    One that is known to have had no effect does not belong in a history.

    Args:
        kind: What was asked for.
        key: Of the store.
        value: PUT, CAS: the new one; APPEND: what is appended.
        called: When, in any unit that grows. An operation that is called when another returns
            overlaps it.
        returned: When; None: the outcome is unknown. Then it may have taken effect at any moment
            after the call, or never, and what it gave means nothing.
        read: GET: what it gave; None: the key was absent.
        expected: CAS: what the key must hold; None: it must be absent.
        succeeded: CAS: it matched; DELETE: the key was there; None: not told.
        client: For the reader.
    """

    __match_args__ = (
        "kind",
        "key",
        "value",
        "called",
        "returned",
        "read",
        "expected",
        "succeeded",
        "client",
    )
    def __init__(
        self,
        kind: OperationKind,
        key: str | bytes,
        value: str | bytes = "",
        *,
        called: int,
        returned: int | None = None,
        read: str | bytes | None = None,
        expected: str | bytes | None = None,
        succeeded: bool | None = None,
        client: int = 0,
    ) -> None: ...
    @property
    def kind(self) -> OperationKind: ...
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...
    @property
    def called(self) -> int: ...
    @property
    def returned(self) -> int | None: ...
    @property
    def read(self) -> bytes | None: ...
    @property
    def expected(self) -> bytes | None: ...
    @property
    def succeeded(self) -> bool | None: ...
    @property
    def client(self) -> int: ...
    def replace(self, **changes: Any) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...

class Verdict(Enum):
    """UNKNOWN: `max_steps` was reached for a key, and no other key is at fault."""

    LINEARIZABLE = 0
    NOT_LINEARIZABLE = 1
    UNKNOWN = 2

class LinearizabilityReport:
    """Whether one store that does the operations one at a time explains a history.

    `steps`: the search took so many. `key`: the one at fault, or the first that was too hard.
    When a history is not linearizable, `explained` are the numbers of operations, in an order that
    explains all returns up to the latest moment that can be explained, and `unexplained` the others
    that were called by then, first the one that no order explains. `text` tells that to a reader.
    """

    __match_args__ = ("verdict", "steps", "key", "explained", "unexplained", "text")
    @property
    def verdict(self) -> Verdict: ...
    @property
    def steps(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def explained(self) -> tuple[int, ...]: ...
    @property
    def unexplained(self) -> tuple[int, ...]: ...
    @property
    def text(self) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...

def sim_check_linearizability(
    history: Sequence[Operation], *, absent_is_empty: bool = False, max_steps: int = 1_000_000
) -> LinearizabilityReport:
    """Checks what clients of a key-value store saw; the store was empty before.

    Args:
        history: In any order.
        absent_is_empty: A get of an absent key gives "", as that of one that holds "".
        max_steps: Of the search, for each key. Bounds time and memory: a million take some 0.1 s
            and at most 100 MB.

    Raises `InvalidArgument` for an operation that returned before it was called.
    """

class RaftViolation:
    """What a run violated first.

    `kind`: "election safety", "votes", "leader append-only", "log matching",
    "leader completeness", "state machine safety", "monotony", "durability", "linearizability",
    "liveness" (the cluster does not recover), "check" (an invariant of the code), "start" (a node
    can't start from its disk), "node" (it ends with an error that is not its disk's) or "codec".
    `node`: 0 is none. `step`: the number of the event. `seconds`: of virtual time.
    """

    __match_args__ = ("kind", "node", "text", "step", "seconds")
    @property
    def kind(self) -> str: ...
    @property
    def node(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    def __eq__(self, other: object, /) -> bool: ...

class RaftCounts:
    """How much happened. `node_steps`: ticks, messages, disk completions and requests.

    `elections`: terms that had a leader. `committed`: entries. `faults`: steps of the plan that
    were carried out. Requests are done, refused, or unknown to their client.
    """

    __match_args__ = (
        "node_steps",
        "messages",
        "message_bytes",
        "messages_lost",
        "elections",
        "committed",
        "faults",
        "starts",
        "power_cuts",
        "snapshots_sent",
        "membership_changes",
        "requests",
        "requests_done",
        "requests_unknown",
        "requests_refused",
    )
    @property
    def node_steps(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def message_bytes(self) -> int: ...
    @property
    def messages_lost(self) -> int: ...
    @property
    def elections(self) -> int: ...
    @property
    def committed(self) -> int: ...
    @property
    def faults(self) -> int: ...
    @property
    def starts(self) -> int: ...
    @property
    def power_cuts(self) -> int: ...
    @property
    def snapshots_sent(self) -> int: ...
    @property
    def membership_changes(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def requests_done(self) -> int: ...
    @property
    def requests_unknown(self) -> int: ...
    @property
    def requests_refused(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

class RaftRun:
    """One run of the Raft simulator. Two runs with the same `hash` were the same."""

    @property
    def seed(self) -> int: ...
    @property
    def violation(self) -> RaftViolation | None: ...
    @property
    def recovered(self) -> bool:
        """Once the faults were over, all worked again."""

    @property
    def unrecoverable(self) -> bool:
        """The disks of a majority are gone: there was nothing to recover from."""

    @property
    def history_unknown(self) -> bool:
        """Whether the history is linearizable would have taken too long to find out."""

    @property
    def counts(self) -> RaftCounts: ...
    @property
    def steps(self) -> int:
        """Events that happened."""

    @property
    def hash(self) -> int:
        """Of all that happened."""

    @property
    def history(self) -> tuple[Operation, ...]:
        """What the clients saw; times are numbers of events."""

    @property
    def trace(self) -> tuple[str, ...]:
        """Line by line, when it was asked for."""

    @property
    def plan(self) -> str:
        """The cluster, its faults and requests, line by line."""

    @property
    def plan_size(self) -> int:
        """How many faults and requests there are."""

    @property
    def shrink_runs(self) -> int:
        """How many runs it took to shrink the plan; 0: it is as it was drawn."""

    @property
    def replay(self) -> str:
        """The command line that makes the run of this seed again."""

    def shrink(self, *, max_runs: int = 2000) -> RaftRun:
        """The run of the least plan that ends in the same kind of violation; traced.

        Takes as many runs as are needed, up to `max_runs`. Raises `FailedPrecondition` when there
        is no violation.
        """

    def report(self) -> str:
        """The plan, the trace without its noise, and what was violated."""

class RaftTotals:
    """Many runs. `violated`: their seeds, in order. `seconds`: of real time."""

    __match_args__ = (
        "seeds",
        "recovered",
        "unrecoverable",
        "histories_unknown",
        "violated",
        "counts",
        "seconds",
    )
    @property
    def seeds(self) -> int: ...
    @property
    def recovered(self) -> int: ...
    @property
    def unrecoverable(self) -> int: ...
    @property
    def histories_unknown(self) -> int: ...
    @property
    def violated(self) -> tuple[int, ...]: ...
    @property
    def counts(self) -> RaftCounts: ...
    @property
    def seconds(self) -> float: ...
    def __eq__(self, other: object, /) -> bool: ...

def sim_run_raft_seed(
    seed: int,
    *,
    focus: str = "none",
    nodes: int | None = None,
    rules_off: Sequence[str] = (),
    trace: bool = False,
) -> RaftRun:
    """Runs one seed. The same arguments give the same run.

    Args:
        seed: 0 to 2**64 - 1.
        focus: One of `pgraft.sim.FOCUSES`.
        nodes: 1 to 7; None: drawn from the seed.
        rules_off: Of `pgraft.sim.RULES`: a negative control, which is expected to find something.
        trace: Keep a line for each thing that happens.

    Raises `ValueError` for a focus, rule or number of nodes that there is not.
    """

def sim_run_raft_seeds(
    first: int,
    last: int,
    *,
    focus: str = "none",
    nodes: int | None = None,
    rules_off: Sequence[str] = (),
    jobs: int = 1,
    keep_going: bool = False,
) -> RaftTotals:
    """Runs the seeds from `first` to `last`, which is included.

    Args:
        first: The least seed.
        last: The greatest.
        focus: As for one seed.
        nodes: As for one seed.
        rules_off: As for one seed.
        jobs: Threads, 1 to 256.
        keep_going: After a violation; otherwise no further seed is begun.

    Raises `ValueError` as for one seed, and for an empty range.
    """
