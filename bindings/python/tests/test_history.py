"""Histories that a single server could have produced, and broken ones that must be rejected."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from pgraft.history import FinalState, Operation, Outcome, Transfer, check

INITIAL = {1: 100, 2: 100}


def op(id_: int, began: float, ended: float, **fields: Any) -> Operation:
    return Operation(id_, Outcome.ACKNOWLEDGED, began, ended, **fields)


def doubtful(id_: int, began: float, **fields: Any) -> Operation:
    return Operation(id_, Outcome.IN_DOUBT, began, **fields)


def refused(id_: int, began: float, **fields: Any) -> Operation:
    return Operation(id_, Outcome.REFUSED, began, **fields)


def state(*ids: int, balances: dict[int, int] = INITIAL, **lists: tuple[int, ...]) -> FinalState:
    return FinalState(ids, lists, balances)


def kinds(operations: list[Operation], final: FinalState) -> set[str]:
    return {problem.kind for problem in check(operations, final, INITIAL)}


ONE = op(1, 0, 1, appends=("x",), reads={"x": ()})
TWO = op(2, 2, 3, appends=("x",), reads={"x": (1,)})


def test_one_after_the_other_is_right() -> None:
    assert kinds([ONE, TWO], state(1, 2, x=(1, 2))) == set()


def test_an_empty_history_is_right() -> None:
    assert kinds([], state()) == set()


def test_a_lost_append_is_found() -> None:
    assert "lost" in kinds([ONE, TWO], state(1, 2, x=(2,)))
    assert "lost" in kinds([ONE, TWO], state(2, x=(2,)))


def test_a_lost_operation_without_appends_is_found() -> None:
    assert kinds([op(1, 0, 1)], state()) == {"lost"}


def test_a_duplicate_is_found() -> None:
    assert "duplicate" in kinds([ONE, TWO], state(1, 2, x=(1, 2, 1)))
    assert "duplicate" in kinds([ONE, TWO], state(1, 2, 2, x=(1, 2)))


def test_what_nobody_wrote_is_found() -> None:
    assert "from nowhere" in kinds([ONE], state(1, x=(1, 9)))
    assert "from nowhere" in kinds([ONE], state(1, 9, x=(1,)))
    assert "from nowhere" in kinds([ONE], state(1, x=(1,), y=(1,)))


def test_a_read_that_is_no_beginning_is_found() -> None:
    reader = op(3, 4, 5, reads={"x": (2, 1)})
    assert "not a beginning" in kinds([ONE, TWO, reader], state(1, 2, 3, x=(1, 2)))


def test_a_read_of_what_vanished_is_found() -> None:
    reader = op(3, 4, 5, reads={"x": (1, 2, 7)})
    assert "not a beginning" in kinds([ONE, TWO, reader], state(1, 2, 3, x=(1, 2)))


def test_appends_against_the_order_of_time_are_found() -> None:
    blind = replace(TWO, reads={})
    assert kinds([ONE, blind], state(1, 2, x=(1, 2))) == set()
    assert kinds([ONE, blind], state(1, 2, x=(2, 1))) == {"no order"}


def test_appends_at_the_same_time_may_have_either_order() -> None:
    other = op(2, 0.5, 1.5, appends=("x",))
    first = replace(ONE, reads={})
    for items in ((1, 2), (2, 1)):
        assert kinds([first, other], state(1, 2, x=items)) == set()


def test_a_stale_read_is_found() -> None:
    """Of a leader that has been replaced: 2 was acknowledged long before 3 began."""
    reader = op(3, 4, 5, reads={"x": (1,)})
    assert kinds([ONE, TWO, reader], state(1, 2, 3, x=(1, 2))) == {"no order"}
    (problem,) = check([ONE, TWO, reader], state(1, 2, 3, x=(1, 2)), INITIAL)
    assert "3 did not see 2 in list x" in problem.what
    assert "2 was acknowledged before 3 began" in problem.what.replace("it was", "2 was")


def test_a_stale_read_of_a_list_that_was_empty_is_found() -> None:
    reader = op(2, 2, 3, reads={"x": ()})
    assert kinds([replace(ONE, reads={}), reader], state(1, 2, x=(1,))) == {"no order"}


def test_write_skew_is_found() -> None:
    """Each read what the other one appends to: no order, though all times overlap."""
    left = op(1, 0, 9, appends=("x",), reads={"y": ()})
    right = op(2, 0, 9, appends=("y",), reads={"x": ()})
    assert kinds([left, right], state(1, 2, x=(1,), y=(2,))) == {"no order"}


def test_a_long_fork_is_found() -> None:
    writers = [op(1, 0, 9, appends=("x",)), op(2, 0, 9, appends=("y",))]
    readers = [
        op(3, 0, 9, reads={"x": (1,), "y": ()}),
        op(4, 0, 9, reads={"x": (), "y": (2,)}),
    ]
    assert kinds(writers + readers, state(1, 2, 3, 4, x=(1,), y=(2,))) == {"no order"}


def test_what_is_in_doubt_may_be_there_or_not() -> None:
    one = doubtful(2, 2, appends=("x", "y"))
    assert kinds([ONE, one], state(1, 2, x=(1, 2), y=(2,))) == set()
    assert kinds([ONE, one], state(1, x=(1,), y=())) == set()


def test_what_is_in_doubt_is_there_as_a_whole() -> None:
    one = doubtful(2, 2, appends=("x", "y"))
    assert "lost" in kinds([ONE, one], state(1, 2, x=(1, 2), y=()))
    assert "half done" in kinds([ONE, one], state(1, x=(1, 2), y=(2,)))


def test_what_is_in_doubt_comes_after_what_was_acknowledged_before_it() -> None:
    one = doubtful(2, 2, appends=("x",))
    assert kinds([replace(ONE, reads={}), one], state(1, 2, x=(2, 1))) == {"no order"}


def test_what_was_refused_must_not_be_there() -> None:
    assert kinds([ONE, refused(2, 2, appends=("x",))], state(1, x=(1,))) == set()
    assert "refused but done" in kinds([ONE, refused(2, 2)], state(1, 2, x=(1,)))


def test_money_that_is_moved_stays_money() -> None:
    moved = op(1, 0, 1, transfer=Transfer(1, 2, 30))
    adder = op(2, 0, 9, total=200)
    assert kinds([moved, adder], state(1, 2, balances={1: 70, 2: 130})) == set()


def test_money_made_or_lost_is_found() -> None:
    moved = op(1, 0, 1, transfer=Transfer(1, 2, 30))
    assert {"total", "balance"} <= kinds([moved], state(1, balances={1: 70, 2: 100}))
    assert kinds([op(1, 0, 1, total=170)], state(1)) == {"total"}


def test_a_transfer_that_is_lost_or_done_twice_is_found() -> None:
    moved = op(1, 0, 1, transfer=Transfer(1, 2, 30))
    assert kinds([moved], state(1, balances={1: 100, 2: 100})) == {"balance"}
    assert kinds([moved], state(1, balances={1: 40, 2: 160})) == {"balance"}


def test_examples_are_bounded_and_counted() -> None:
    problems = check([op(i, 0, 1) for i in range(100)], state(), INITIAL)
    assert len(problems) == 21
    assert problems[-1].what == "and 80 more"


def random_history(chooser: random.Random, count: int) -> tuple[list[Operation], FinalState]:
    """What one server does: each operation takes effect at a moment between begin and end."""
    lists: dict[str, tuple[int, ...]] = {}
    operations = []
    for i in range(count):
        moment = float(i)
        keys = chooser.sample("uvwxyz", 3)
        reads = {key: lists.get(key, ()) for key in keys[:2]}
        appends = tuple(keys[1:]) if chooser.random() < 0.7 else ()
        for key in appends:
            lists[key] = (*lists.get(key, ()), i)
        began, ended = moment - 5 * chooser.random(), moment + 5 * chooser.random()
        operations.append(op(i, began, ended, appends=appends, reads=reads))
    return operations, FinalState(range(count), lists, INITIAL)


def test_what_one_server_does_is_never_rejected() -> None:
    for seed in range(30):
        operations, final = random_history(random.Random(seed), 200)
        assert check(operations, final, INITIAL) == []


def test_two_swapped_acknowledged_appends_are_found_in_a_long_history() -> None:
    operations, final = random_history(random.Random(1), 2000)
    items = list(final.lists["x"])
    items[10], items[60] = items[60], items[10]
    broken = FinalState(final.operations, {**final.lists, "x": tuple(items)}, INITIAL)
    assert "not a beginning" in kinds(operations, broken)
    blind = [replace(one, reads={}) for one in operations]
    assert kinds(blind, broken) == {"no order"}
