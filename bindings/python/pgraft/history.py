"""Judges what clients saw: could a single server that never fails have given these answers?

An operation is one SERIALIZABLE transaction. It appends its own id to lists, reads lists, moves
money between accounts or adds up all balances. Its id is an idempotency key, so in the end the
database itself tells which of those without an answer took place. Of the final state, and
of every acknowledged answer, must hold:

- Every acknowledged operation is there exactly once, whole; a refused one is not there at all; one
  in doubt is there whole or not at all.
- Every list that was read is a beginning of the final list.
- There is an order of all operations in which each sees exactly those before it, and in which
  an operation that was acknowledged before another one began comes first. (For lists: what
  an operation saw tells who came before and after it; a cycle has no order. This is Elle's
  method for list-append, Kingsbury and Alvaro 2020.)
- Money is neither made nor lost, in the end and in every sum.

Pure functions of values: no clock, no database.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

_MAX_EXAMPLES = 20  # of one kind; the rest is counted


class Outcome(Enum):
    """What a client knows about its operation."""

    ACKNOWLEDGED = "acknowledged"
    IN_DOUBT = "in doubt"
    """Its connection died while it may have been committing."""
    REFUSED = "refused"
    """Every attempt ended with an error from a server that lived on, or before its COMMIT."""


@dataclass(frozen=True)
class Transfer:
    """Money that an operation moves."""

    source: int
    target: int
    amount: int


@dataclass(frozen=True)
class Operation:
    """One transaction as its client knows it. Times are of `time.monotonic`."""

    id: int
    outcome: Outcome
    began: float
    """Before anything of it was sent."""
    ended: float = float("inf")
    """When the answer was there; without meaning unless acknowledged."""
    appends: tuple[str, ...] = ()
    """The lists it appends its id to."""
    reads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What it saw in lists before it appended; only if the acknowledged attempt told."""
    transfer: Transfer | None = None
    total: int | None = None
    """The sum of all balances that it saw."""


@dataclass(frozen=True)
class FinalState:
    """What a server holds after all is over."""

    operations: Sequence[int]
    """The ids that left their mark."""
    lists: Mapping[str, tuple[int, ...]]
    balances: Mapping[int, int]


@dataclass(frozen=True)
class Problem:
    """Something that a single server could not have done."""

    kind: str
    what: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.kind}: {self.what}"


def check(
    operations: Iterable[Operation], final: FinalState, initial: Mapping[int, int]
) -> list[Problem]:
    """All that is wrong; empty: nothing.

    Args:
        operations: Of all clients.
        final: Read after all of them had ended.
        initial: The balances before the first of them.
    """
    known = {one.id: one for one in operations}
    present = Counter(final.operations)
    problems = [
        *_marks(known, present),
        *_appends(known, present, final.lists),
        *_prefixes(known.values(), final.lists),
        *_money(known, present, final.balances, initial),
    ]
    effective = [one for one in known.values() if one.id in present]
    problems += _order(effective, final.lists)
    return _bounded(problems)


def _bounded(problems: Iterable[Problem]) -> list[Problem]:
    """Not more of a kind than a person reads; how many there are is said."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    bounded = []
    for kind, found in by_kind.items():
        bounded += found[:_MAX_EXAMPLES]
        if len(found) > _MAX_EXAMPLES:
            bounded.append(Problem(kind, f"and {len(found) - _MAX_EXAMPLES} more"))
    return bounded


def _marks(known: Mapping[int, Operation], present: Counter[int]) -> Iterable[Problem]:
    for one in known.values():
        if one.outcome is Outcome.ACKNOWLEDGED and one.id not in present:
            yield Problem("lost", f"operation {one.id} was acknowledged and is not there")
        if one.outcome is Outcome.REFUSED and one.id in present:
            yield Problem("refused but done", f"operation {one.id} was refused and is there")
    for id_, count in present.items():
        if count > 1:
            yield Problem("duplicate", f"operation {id_} is there {count} times")
        if id_ not in known:
            yield Problem("from nowhere", f"operation {id_} is there, and nobody asked for it")


def _appends(
    known: Mapping[int, Operation], present: Counter[int], lists: Mapping[str, tuple[int, ...]]
) -> Iterable[Problem]:
    counts = {key: Counter(items) for key, items in lists.items()}
    for key, items in counts.items():
        for id_, count in items.items():
            if count > 1:
                yield Problem("duplicate", f"{id_} is {count} times in list {key}")
            if id_ not in known or key not in known[id_].appends:
                yield Problem("from nowhere", f"nobody appended the {id_} in list {key}")
    for one in known.values():
        for key in one.appends:
            there = one.id in counts.get(key, ())
            if one.id in present and not there:
                yield Problem("lost", f"the append of {one.id} to list {key} is not there")
            if one.id not in present and there:
                yield Problem(
                    "half done", f"{one.id} is in list {key}, and the rest of it did not take place"
                )


def _prefixes(
    operations: Iterable[Operation], lists: Mapping[str, tuple[int, ...]]
) -> Iterable[Problem]:
    for one in operations:
        for key, seen in one.reads.items():
            items = lists.get(key, ())
            if items[: len(seen)] != seen:
                at = next(
                    (i for i, (a, b) in enumerate(zip(seen, items, strict=False)) if a != b),
                    min(len(seen), len(items)),
                )
                yield Problem(
                    "not a beginning",
                    f"operation {one.id} read list {key} as {_around(seen, at)}, "
                    f"in the end it is {_around(items, at)}",
                )


def _around(items: Sequence[int], at: int) -> str:
    start, end = max(0, at - 2), at + 3
    shown = ", ".join(str(item) for item in items[start:end])
    return f"[{'..., ' if start else ''}{shown}{', ...' if end < len(items) else ''}]"


def _money(
    known: Mapping[int, Operation],
    present: Counter[int],
    balances: Mapping[int, int],
    initial: Mapping[int, int],
) -> Iterable[Problem]:
    total = sum(initial.values())
    if sum(balances.values()) != total:
        yield Problem("total", f"all balances are {sum(balances.values())}, they were {total}")
    for one in known.values():
        if one.total is not None and one.total != total:
            yield Problem("total", f"operation {one.id} added up {one.total} instead of {total}")
    expected = Counter(initial)
    for one in known.values():
        if one.transfer is not None and one.id in present:
            expected[one.transfer.source] -= one.transfer.amount
            expected[one.transfer.target] += one.transfer.amount
    for account in initial:
        if balances.get(account) != expected[account]:
            yield Problem(
                "balance",
                f"account {account} has {balances.get(account)} instead of {expected[account]}",
            )


# --- the order ---

_Edges = dict[int, dict[int, str]]


def _order(operations: Sequence[Operation], lists: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    """A cycle among "came before" has no order; one example of it is enough.

    Beside the operations there are nodes for moments (negative numbers): an acknowledgement comes
    before its moment, a moment before the next, and before all that begin after it. So time needs
    as many edges as there are operations, not their square.
    """
    edges: _Edges = defaultdict(dict)
    _edges_of_lists(operations, lists, edges)
    _edges_of_time(operations, edges)
    cycle = _find_cycle(edges)
    if not cycle:
        return []
    steps = []
    for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if one >= 0 and other >= 0:
            steps.append(f"{one} came before {other}: {edges[one][other]}")
        elif one >= 0:  # into time; where it leaves it again is the next operation
            at = cycle.index(one)
            later = next(n for n in cycle[at + 1 :] + cycle[:at] if n >= 0)
            steps.append(f"{one} came before {later}: it was acknowledged before {later} began")
    return [Problem("no order", "; ".join(steps))]


def _edges_of_lists(
    operations: Sequence[Operation], lists: Mapping[str, tuple[int, ...]], edges: _Edges
) -> None:
    for key, items in lists.items():
        for before, after in pairwise(items):
            if before != after:
                edges[before].setdefault(after, f"{after} follows {before} in list {key}")
    for one in operations:
        for key, seen in one.reads.items():
            items = lists.get(key, ())
            if items[: len(seen)] != seen:
                continue  # reported already
            if seen and seen[-1] != one.id:
                edges[seen[-1]].setdefault(one.id, f"{one.id} saw {seen[-1]} in list {key}")
            following = items[len(seen)] if len(seen) < len(items) else one.id
            if following != one.id:
                why = f"{one.id} did not see {following} in list {key}"
                edges[one.id].setdefault(following, why)


def _edges_of_time(operations: Sequence[Operation], edges: _Edges) -> None:
    acknowledged = [one for one in operations if one.outcome is Outcome.ACKNOWLEDGED]
    ends = sorted(acknowledged, key=lambda one: one.ended)
    for i, one in enumerate(ends):
        moment = -1 - i
        edges[one.id].setdefault(moment, "")
        if i:
            edges[moment + 1].setdefault(moment, "")
    passed = 0
    for one in sorted(operations, key=lambda one: one.began):
        while passed < len(ends) and ends[passed].ended < one.began:
            passed += 1
        if passed:
            edges[-passed].setdefault(one.id, "")


def _find_cycle(edges: _Edges) -> list[int]:
    """Nodes of a cycle in their order; empty: there is none. Without recursion, in linear time."""
    done: set[int] = set()
    for start in list(edges):
        if start in done:
            continue
        path = [start]
        position = {start: 0}
        ways = [iter(edges.get(start, {}))]
        while path:
            for following in ways[-1]:
                if following in position:
                    return path[position[following] :]
                if following not in done:
                    position[following] = len(path)
                    path.append(following)
                    ways.append(iter(edges.get(following, {})))
                    break
            else:
                ways.pop()
                gone = path.pop()
                del position[gone]
                done.add(gone)
    return []
