"""Majorities as pure functions: what a configuration has acknowledged or decided.

A configuration is a set of voters or, while it is joint, two that must both agree: `voters` and
`outgoing`. An empty half agrees to everything.

    >>> committed([1, 2, 3], {1: 12, 2: 10})
    10
    >>> vote_result([1, 2, 3], {1: True, 2: True})
    <VoteResult.WON: 2>
"""

from __future__ import annotations

from pgraft._pgraft import UNLIMITED_INDEX as UNLIMITED
from pgraft._pgraft import VoteResult
from pgraft._pgraft import quorum_committed as committed
from pgraft._pgraft import quorum_vote_result as vote_result

__all__ = ["UNLIMITED", "VoteResult", "committed", "vote_result"]
