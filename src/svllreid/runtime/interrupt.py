"""SIGTERM and Ctrl-C: finish the step, save, stop; anywhere else stop at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Inside its block a signal raises KeyboardInterrupt; inside `deferred` the first one only sets `requested`.

    Signals are left alone outside the main thread.
    """

    def __init__(self) -> None:
        self.requested = False
        self.waiting = False

    def __enter__(self) -> StopSignals:
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Steps run here: the first signal waits until they ask for `requested`."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.waiting or self.requested:
            raise KeyboardInterrupt
        self.requested = True
