"""Writes in the background: in their order, nothing after one that failed, and no error lost."""

import logging
import threading
import weakref

import pytest

from svllreid.errors import OutputError
from svllreid.runtime.background import BackgroundWriter

LONG = 60


def full():
    raise OutputError("no space left")


def test_writes_are_done_in_another_thread_in_their_order():
    done, go = [], threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lambda: done.append(go.wait(LONG)))
        for number in range(5):
            writer.submit(lambda number=number: done.append((number, threading.get_ident())))
        assert not done, "the first one waits until this thread has handed over all"
        go.set()
        writer.wait()
        assert done[0] is True
        assert [number for number, _ in done[1:]] == list(range(5))
        assert {thread for _, thread in done[1:]} != {threading.get_ident()}


def test_the_end_of_the_context_waits():
    done, go = [], threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lambda: done.append(go.wait(LONG)))
        go.set()
    assert done == [True]
    with writer:  # and again
        writer.submit(done.append, 2)
    assert done == [True, 2]


def test_nothing_is_written_after_a_failure_and_every_method_raises_it():
    done = []
    with pytest.raises(OutputError, match="no space"), BackgroundWriter() as writer:
        writer.submit(full)
        with pytest.raises(OutputError, match="no space"):
            writer.wait()
        for method in (writer.wait, writer.check, lambda: writer.submit(done.append, 1)):
            with pytest.raises(OutputError, match="no space"):
                method()
    assert not done


def test_what_was_handed_over_before_a_failure_showed_is_left_out():
    done, go = [], threading.Event()
    with pytest.raises(OutputError, match="no space"), BackgroundWriter() as writer:
        writer.submit(lambda: go.wait(LONG) and full())
        writer.submit(done.append, 1)
        go.set()
    assert not done


def test_an_error_beside_another_one_is_logged(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt), BackgroundWriter() as writer:
        writer.submit(full)
        raise KeyboardInterrupt
    assert [record.getMessage() for record in caplog.records] == ["no space left"]


def test_an_error_that_was_raised_is_not_logged_again(caplog):
    with pytest.raises(OutputError), BackgroundWriter() as writer:
        writer.submit(full)
        writer.wait()
    assert not caplog.records


def test_what_is_written_is_let_go():
    class Big:
        pass

    big = Big()
    known = weakref.ref(big)
    with BackgroundWriter() as writer:
        writer.submit(lambda big: None, big)
        del big
        writer.submit(lambda: None)  # when it is done, the thread is done with the one before
        writer.wait()
        assert known() is None


def test_outside_of_its_context_it_takes_nothing():
    writer = BackgroundWriter()
    writer.wait()
    with pytest.raises(RuntimeError, match="not begun"):
        writer.submit(full)
