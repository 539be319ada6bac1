"""Progress bars, the text log, and the scalars that a run records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from svllreid.errors import OutputError
from svllreid.files import UNENCODABLE
from svllreid.runtime.writers import Writer

logger = logging.getLogger(__name__)


class ConsoleHandler(logging.Handler):
    """Prints log lines above the progress bars, without line breaks, so that paths in them can be copied."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        self.console.print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def logging_to(file: Path | None, console: Console) -> Iterator[None]:
    """A context in which the package's log lines are printed and, if a file is given, appended to it.

    Args:
        file: the log file; None: none.
        console: where lines are printed.
    Raises: OutputError: the log file cannot be written to.
    """
    package = logging.getLogger("svllreid")
    handlers: list[logging.Handler] = [ConsoleHandler(console)]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if file is not None:
        try:
            handlers.append(logging.FileHandler(file, encoding="utf-8", errors=UNENCODABLE))
        except OSError as error:
            raise OutputError(
                f"{file} could not be written: {error.strerror or error}; make its folder writable, or name another "
                "output folder",
                settings=("output folder",),
            ) from None
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = package.level
    package.setLevel(logging.INFO)
    for handler in handlers:
        package.addHandler(handler)
    try:
        yield
    finally:
        package.setLevel(level)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()


class LiveReport:
    """A context with progress bars on the console, which also hands a run's scalars to its writers.

    A training stage has one bar, with its losses, learning rate, images per second and remaining time.

    Args:
        console: where the bars are drawn.
        writers: they record the scalars, and are closed at the end of the context.
    """

    def __init__(self, console: Console, writers: Sequence[Writer] = ()) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
        )
        self.writers = writers
        self.bar = self.progress.add_task("", visible=False, note="")
        self.stage = ""
        self.last: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> LiveReport:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        for writer in self.writers:
            with suppress(OSError):  # `scalars` has reported a full disk, or the next file that is written will
                writer.close()

    def start_epoch(self, stage: str, epoch: int, max_epochs: int, steps: int, done: int) -> None:
        """Shows that an epoch begins.

        Args:
            stage: such as `stage 1`.
            epoch, max_epochs: which epoch, from 1, of how many.
            steps: of every epoch.
            done: steps of this epoch that an earlier run has done.
        """
        if stage != self.stage:
            self.progress.reset(self.bar, visible=True, note="")
            self.stage = stage
        text = f"{stage} epoch {epoch}/{max_epochs}"
        self.progress.update(self.bar, description=text, total=max_epochs * steps, completed=(epoch - 1) * steps + done)

    def advance(self) -> None:
        """Moves the bar by one step."""
        self.progress.advance(self.bar)

    def step(self, stage: str, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """Shows and records the mean losses since the last call."""
        self.last = (lr, images_per_second)
        self.progress.update(self.bar, note=f"{_losses(values)}  lr {lr:.1e}  {images_per_second:.0f} img/s")
        self.scalars(stage.replace(" ", ""), {**values, "lr": lr, "images_per_second": images_per_second}, step)

    def end_epoch(self, stage: str, epoch: int, values: dict[str, float]) -> None:
        """Logs the mean losses of an epoch."""
        lr, speed = self.last
        logger.info("%s epoch %d: %s  lr %.2e  %.0f img/s", stage, epoch, _losses(values), lr, speed)

    def scalars(self, prefix: str, values: dict[str, Any], step: int) -> None:
        """Records those values that are floats, under `prefix/name`.

        Raises: OutputError: a writer's file cannot be written.
        """
        numbers = {f"{prefix}/{name}": value for name, value in values.items() if isinstance(value, float)}
        for writer in self.writers:
            for name, value in numbers.items():
                try:
                    writer.add_scalar(name, value, step)
                except OSError as error:
                    raise OutputError(
                        f"scalars could not be written to the output folder: {error}; free space",
                        settings=("output folder",),
                    ) from None

    @contextmanager
    def counting(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for work of `total` items, and their rate; the function it yields takes the items done since then."""
        bar, start, finished = self.progress.add_task(text, total=total, note=""), time.perf_counter(), 0

        def count(done: int) -> None:
            nonlocal finished
            finished += done
            rate = finished / max(1e-9, time.perf_counter() - start)
            self.progress.update(bar, advance=done, note=f"{rate:,.0f}/s")

        try:
            yield count
        finally:
            self.progress.remove_task(bar)

    @contextmanager
    def tracking(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for work of unknown size; the function it yields takes the amount done so far and the total."""
        bar = self.progress.add_task(text, total=None, note="")
        try:
            yield lambda done, total: self.progress.update(bar, completed=done, total=total)
        finally:
            self.progress.remove_task(bar)


def _losses(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
