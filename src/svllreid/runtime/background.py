"""Files written in a background thread, one after the other, while training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import ParamSpec

P = ParamSpec("P")
logger = logging.getLogger(__name__)


class BackgroundWriter:
    """A context with one thread that writes files, in the order in which they are handed over.

    If a write fails, those handed over after it are left out, and the next call of any method raises its error. The end
    of the context waits for all writes. Outside of the context nothing can be handed over, and nothing is waited for.
    A writer may be entered again after its context has ended.

    >>> written = []
    >>> with BackgroundWriter() as writer:
    ...     writer.submit(written.append, "state of epoch 1")
    ...     writer.submit(written.append, "note that epoch 1 is settled")
    ...     writer.wait()
    ...     print(written)
    ['state of epoch 1', 'note that epoch 1 is settled']
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self._error: BaseException | None = None

    def __enter__(self) -> BackgroundWriter:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        # The thread starts now: a signal that came while it starts would hide it from the wait at the end.
        self._pool.submit(lambda: None).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self._pending.clear()
        if error is None:
            self.check()
        elif self._error is not None and self._error is not error:
            logger.error("%s", self._error)  # the other error ends the run

    def submit(self, write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Hands over a function that writes a file, and its arguments, which must not change until it is done.

        Raises: the error of an earlier write; then this one is not handed over.
        """
        self.check()
        if self._pool is None:
            raise RuntimeError("the context of the writer has not begun")
        self._pending.append(self._pool.submit(self._write, lambda: write(*args, **kwargs)))

    def wait(self) -> None:
        """Waits until everything handed over is written.

        Raises: the error of the first write that failed.
        """
        wait(self._pending)
        self._pending.clear()
        self.check()

    def check(self) -> None:
        """Raises the error of the first write that failed, if one has; it waits for nothing."""
        if self._error is not None:
            raise self._error

    def _write(self, write: Callable[[], None]) -> None:
        """Write a file in the thread, unless an earlier one failed."""
        if self._error is not None:
            return
        try:
            write()
        except BaseException as error:  # whatever it is, the main thread raises it
            self._error = error
