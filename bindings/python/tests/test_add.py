"""Who may be added by `pgraft add`."""

from __future__ import annotations

import pytest
from pgraft import _pgraft
from pgraft.commands.change import _new_node
from pgraft.errors import CommandError

from .cluster_answers import address, member, three


def test_a_member_that_was_created_anew_is_not_taken_for_the_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be a success that helps nobody: the members refuse it."""
    identity = {
        "cluster_name": "pgraft",
        "node_id": 3,
        "incarnation": 1,
        "member": member(3)["member"],
    }
    monkeypatch.setattr(_pgraft, "query_identity", lambda *_: identity)
    assert _new_node(three(), address(3), 1.0) == (3, address(3))
    identity["incarnation"] = 2
    with pytest.raises(CommandError, match="created anew") as raised:
        _new_node(three(), address(3), 1.0)
    assert "pgraft remove 3" in raised.value.hint
