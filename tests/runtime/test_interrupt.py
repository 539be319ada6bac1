"""Signals: at once, or after the step; and nothing is left behind."""

import os
import signal
import threading

import pytest

from svllreid.runtime.interrupt import SIGNALS, StopSignals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_a_step_a_signal_stops_at_once(number):
    with pytest.raises(KeyboardInterrupt), StopSignals():
        send(number)
        pytest.fail("the signal was not raised")


@pytest.mark.parametrize("number", SIGNALS)
def test_inside_a_step_the_first_signal_waits_and_the_second_does_not(number):
    with StopSignals() as stop:
        with stop.deferred():
            assert not stop.requested
            send(number)
            assert stop.requested
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGTERM)
        assert stop.requested


def test_after_the_step_a_signal_stops_at_once_again():
    with StopSignals() as stop:
        with stop.deferred():
            pass
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


def test_a_step_that_fails_ends_the_waiting():
    with StopSignals() as stop:
        with pytest.raises(ValueError), stop.deferred():
            raise ValueError
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


@pytest.mark.parametrize("fails", [False, True])
def test_the_handlers_of_before_come_back(fails):
    def handler(number, frame):
        pass

    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        with pytest.raises(ValueError) if fails else StopSignals(), StopSignals():
            assert signal.getsignal(signal.SIGTERM) != handler
            if fails:
                raise ValueError
        assert [signal.getsignal(number) for number in SIGNALS] == [handler] * len(SIGNALS)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_other_threads_leave_signals_alone():
    """Python sets handlers in the main thread only, so elsewhere there is nothing to do, and no error."""
    seen = []

    def work():
        with StopSignals() as stop, stop.deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before] == [signal.getsignal(signal.SIGTERM)]
