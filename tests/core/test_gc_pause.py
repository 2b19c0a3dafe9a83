"""The garbage collector while lasting objects are made."""

import gc

import pytest

from vitbench.core.gc_pause import gc_paused


def _is_old(given: object) -> bool:
    return any(each is given for each in gc.get_objects(generation=2))


def test_within_the_block_nothing_is_collected_and_afterwards_it_is():
    gc.enable()
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_pause_within_a_pause_does_not_end_it():
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()


def test_what_was_made_is_not_looked_at_by_the_next_collection():
    with gc_paused():
        made = [[]]
        assert not _is_old(made)
    assert _is_old(made)


def test_garbage_of_the_block_is_still_collected():
    class Node:
        pass

    with gc_paused():
        node = Node()
        node.itself = node
        del node
    assert any(type(each) is Node for each in gc.get_objects())
    gc.collect()
    assert not any(type(each) is Node for each in gc.get_objects())


@pytest.fixture
def frozen():
    """An object that a user has frozen."""
    each = [[]]
    gc.freeze()
    yield each
    gc.unfreeze()


def test_what_a_user_has_frozen_stays_frozen(frozen):
    with gc_paused():
        pass
    assert gc.get_freeze_count() > 0
    assert not any(each is frozen for each in gc.get_objects())
