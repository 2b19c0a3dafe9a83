"""The thread that writes caches: in order, never far behind, and no error is lost."""

import threading

import pytest

from vitbench.data.writer_thread import MOST_BEHIND, WriterThread


def test_calls_are_made_in_order_in_one_other_thread():
    made = []
    with WriterThread() as behind:
        for number in range(20):
            behind(lambda number=number: made.append((number, threading.get_ident())))
        behind.finish()
    assert [number for number, _ in made] == list(range(20))
    assert len({thread for _, thread in made}) == 1
    assert made[0][1] != threading.get_ident()


def test_it_is_never_far_behind():
    may_go, written = threading.Event(), []

    def write(number):
        assert may_go.wait(30)
        written.append(number)

    with WriterThread() as behind:
        for number in range(MOST_BEHIND + 1):
            behind(write, number)
        threading.Timer(0.1, may_go.set).start()
        behind(write, MOST_BEHIND + 1)  # waits until the first is done
        assert written[:1] == [0]
        behind.finish()
    assert written == list(range(MOST_BEHIND + 2))


def fail():
    raise OSError("disk full")


def fail_often():
    with WriterThread() as behind:
        for _ in range(MOST_BEHIND + 2):
            behind(fail)


def fail_once():
    with WriterThread() as behind:
        behind(fail)
        behind.finish()


@pytest.mark.parametrize("use", [fail_often, fail_once])
def test_an_error_is_raised_by_a_later_call_or_at_the_end(use):
    with pytest.raises(OSError, match="disk full"):
        use()


def test_leaving_after_an_error_drops_what_has_not_begun():
    made, may_go = [], threading.Event()

    def write(number):
        may_go.wait(30)
        made.append(number)

    def go(behind):
        for number in range(MOST_BEHIND + 1):
            behind(write, number)
        threading.Timer(0.1, may_go.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WriterThread() as behind:
        go(behind)
    assert made == [0]
