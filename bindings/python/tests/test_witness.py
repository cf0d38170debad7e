"""Which acknowledgements speak for two primaries at a time."""

from __future__ import annotations

from pgraft.witness import Acknowledgement as Ack
from pgraft.witness import two_primaries


def test_one_primary_after_the_other_is_as_it_should_be() -> None:
    assert two_primaries([Ack(1, 1, 0.0, 1.0), Ack(2, 2, 1.5, 2.0), Ack(1, 3, 2.5, 3.0)]) == []


def test_an_overlap_proves_nothing() -> None:
    """The older one may have been acknowledged first, and answered late."""
    assert two_primaries([Ack(1, 1, 0.0, 5.0), Ack(2, 2, 1.0, 2.0)]) == []


def test_a_term_belongs_to_one_node() -> None:
    assert "term 4" in two_primaries([Ack(1, 4, 0.0, 1.0), Ack(2, 4, 2.0, 3.0)])[0]


def test_an_old_primary_that_goes_on_is_found() -> None:
    found = two_primaries([Ack(2, 2, 1.0, 2.0), Ack(1, 1, 2.5, 3.0), Ack(2, 2, 2.6, 3.0)])
    assert len(found) == 1
    assert "node 1 acknowledged in term 1" in found[0]
