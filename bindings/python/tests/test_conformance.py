"""Public test data of a reference implementation, where it is at hand: quorums, configuration
changes and interaction scenarios.

PGRAFT_CONFORMANCE names the folder that holds quorum/, confchange/, testdata/ (the scenarios) and
states/ (every node's state after every step of a scenario, as it was recorded).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pgraft
import pytest
from pgraft import confchange, quorum

from .datadriven import Case, parse
from .interaction import Interaction, State, describe_conf, parse_changes

ROOT = Path(os.environ.get("PGRAFT_CONFORMANCE", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("PGRAFT_CONFORMANCE"),
    reason="PGRAFT_CONFORMANCE does not name a folder with the public test data",
)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.txt"))


# --- quorum


def ids(case: Case, name: str) -> list[int]:
    return [int(i) for i in case.options.get(name, ()) if i != "zero"]


def values(case: Case, name: str) -> dict[int, str]:
    """They belong to the ids of cfg, then to those of cfgj that are new; `_` is no value."""
    order = list(dict.fromkeys(ids(case, "cfg") + ids(case, "cfgj")))
    given = dict(zip(order, case.options.get(name, ()), strict=False))
    return {i: value for i, value in given.items() if value != "_"}


def quorum_result(case: Case) -> str:
    voters, outgoing = ids(case, "cfg"), ids(case, "cfgj")
    if case.command == "committed":
        acked = {i: int(value) for i, value in values(case, "idx").items()}
        index = quorum.committed(voters, acked, outgoing=outgoing)
        return "∞" if index == quorum.UNLIMITED else str(index)
    assert case.command == "vote"
    votes = {i: value == "y" for i, value in values(case, "votes").items()}
    return "Vote" + quorum.vote_result(voters, votes, outgoing=outgoing).name.capitalize()


def test_quorum_cases_give_the_same_result() -> None:
    cases = [case for path in files("quorum/testdata") for case in parse(path)]
    for case in cases:
        expected = case.expected[-1].removeprefix("<empty majority quorum>")
        assert quorum_result(case) == expected, case.where
    assert len(cases) == 127


# --- configuration changes


def change(case: Case, changer: confchange.Changer) -> confchange.Membership:
    changes = parse_changes(" ".join(case.input))
    match case.command:
        case "simple":
            return changer.simple(changes)
        case "enter-joint":
            return changer.enter_joint(changes, auto_leave=case.flag("autoleave"))
        case "leave-joint":
            return changer.leave_joint()
    raise AssertionError(f"{case.where}: unknown command")


def outcome(case: Case, changer: confchange.Changer) -> confchange.Membership | str:
    try:
        return change(case, changer)
    except pgraft.InvalidArgument as refusal:
        return str(refusal)


def describe(membership: confchange.Membership) -> tuple[str, ...]:
    lines = [describe_conf(membership.conf)]
    if membership.conf.auto_leave:
        lines[0] += " autoleave"
    for i, member in membership.progress.items():
        assert member.state is pgraft.ProgressState.PROBE
        learner = " learner" if member.is_learner else ""
        lines.append(f"{i}: StateProbe match={member.match} next={member.next}{learner}")
    return tuple(lines)


def test_configuration_changes_give_the_same_configuration_or_error() -> None:
    count = 0
    for path in files("confchange/testdata"):
        membership = confchange.Membership()
        for last_index, case in enumerate(parse(path)):
            count += 1
            changed = outcome(case, confchange.Changer(membership, last_index))
            if isinstance(changed, confchange.Membership):
                assert case.expected == describe(changed), case.where
                membership = changed
            else:
                assert case.expected == (changed,), case.where
    assert count == 58


# --- interaction


def recorded(node: dict[str, Any]) -> State:
    return State(
        node["role"],
        node["term"],
        node["vote"],
        node["commit"],
        node["applied"],
        node["lead"],
        node["stable_first"],
        tuple(one_form(entry) for entry in node["stable_log"]),
        node["sm_data"],
        node["config"],
    )


def one_form(entry: str) -> str:
    """The reference has two stored forms of a configuration change."""
    return entry.replace("EntryConfChangeV2", "EntryConfChange").rstrip()


def is_quiescent(step: dict[str, Any]) -> bool:
    return (
        step["nodes"] is not None
        and step["in_flight"] == 0
        and not any(node["has_ready"] for node in step["nodes"])
    )


def depends_on_batching(scenario: str) -> set[int]:
    index = json.loads((ROOT / "states" / "INDEX.json").read_text())
    return {step["i"] for step in index[scenario]["differs_quiescent"]}


@pytest.mark.parametrize("path", files("testdata"), ids=lambda path: path.stem)
def test_scenario_reaches_the_recorded_states(path: Path) -> None:
    steps = json.loads((ROOT / "states" / f"{path.stem}.json").read_text())
    cases = parse(path)
    assert [case.where for case in cases] == [step["pos"] for step in steps]
    exempt = depends_on_batching(path.stem)
    group = Interaction()
    for i, (case, step) in enumerate(zip(cases, steps, strict=True)):
        printed = group.run(case)
        check_output(case, printed)
        check_refusals(case, group)
        assert not group.violations, case.where
        if is_quiescent(step) and i not in exempt:
            for node in step["nodes"]:
                assert group.state(node["id"]) == recorded(node), f"{case.where}, node {node['id']}"
            assert group.is_quiescent(), case.where


def test_the_scenarios_are_all_there() -> None:
    steps = compared = 0
    for path in files("testdata"):
        recorded_steps = json.loads((ROOT / "states" / f"{path.stem}.json").read_text())
        steps += len(recorded_steps)
        quiescent = {i for i, step in enumerate(recorded_steps) if is_quiescent(step)}
        compared += len(quiescent - depends_on_batching(path.stem))
    assert (len(files("testdata")), steps, compared) == (28, 558, 162)


def check_output(case: Case, printed: list[str]) -> None:
    if case.command in ("raft-log", "raft-state"):
        assert printed == [one_form(line) for line in case.expected], case.where


def check_refusals(case: Case, group: Interaction) -> None:
    if case.command == "propose":
        dropped = any(isinstance(error, pgraft.NotLeader) for error in group.refused)
        assert dropped == ("raft proposal dropped" in case.expected), case.where
    if case.command in ("stabilize", "deliver-msgs"):
        text = "\n".join(case.expected)
        unknown = any(isinstance(error, pgraft.NotFound) for error in group.refused)
        assert unknown == ("peer not found" in text), case.where
