"""Changes of a configuration as pure functions: from one membership and a change to the next.

    >>> from pgraft import ConfChangeSingle, ConfChangeType
    >>> first = Changer().simple([ConfChangeSingle(ConfChangeType.ADD_VOTER, 1)])
    >>> first.conf
    ConfState(voters=(1,))

A change that is impossible raises `pgraft.InvalidArgument`.
"""

from __future__ import annotations

from pgraft._pgraft import Changer, Membership

__all__ = ["Changer", "Membership"]
