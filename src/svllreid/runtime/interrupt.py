"""SIGTERM and Ctrl-C: training finishes its step, saves and stops; anything else stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which SIGINT and SIGTERM raise KeyboardInterrupt.

    Inside `deferred`, the first signal only sets `requested`, for the training loop to act on when its step is done; a
    second one raises. Python lets only the main thread handle signals: in another thread nothing changes.
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
        """A context for training steps: the first signal sets `requested` instead of raising."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.waiting or self.requested:
            raise KeyboardInterrupt
        self.requested = True
