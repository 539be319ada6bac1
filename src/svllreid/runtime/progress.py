"""Progress bars, the text log, and scalars for those who record them."""

from __future__ import annotations

import logging
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
    """Log lines above the progress bars, unbroken, so that paths in them can be copied."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        self.console.print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def logging_to(file: Path | None, console: Console) -> Iterator[None]:
    """The package's log lines on the console and, where given, at the end of a file."""
    package = logging.getLogger("svllreid")
    handlers: list[logging.Handler] = [ConsoleHandler(console)]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8", errors=UNENCODABLE))
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
    """A bar per stage with losses by name, learning rate, images per second and time left; scalars for the writers.

    Args:
        console: where the bars are drawn.
        writers: who records scalars; closed at the end.
    """

    def __init__(self, console: Console, writers: Sequence[Writer] = ()) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
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
            with suppress(OSError):  # a full disk has been told by `scalars`, or will be by what is written next
                writer.close()

    def start_epoch(self, stage: str, epoch: int, max_epochs: int, steps: int, done: int) -> None:
        """Show how far the stage is."""
        if stage != self.stage:
            self.progress.reset(self.bar, visible=True, note="")
            self.stage = stage
        text = f"{stage} epoch {epoch}/{max_epochs}"
        self.progress.update(self.bar, description=text, total=max_epochs * steps, completed=(epoch - 1) * steps + done)

    def advance(self) -> None:
        """Move the bar by one step."""
        self.progress.advance(self.bar)

    def step(self, stage: str, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """Show and record the mean losses of the last steps."""
        self.last = (lr, images_per_second)
        self.progress.update(self.bar, note=f"{_losses(values)}  lr {lr:.1e}  {images_per_second:.0f} img/s")
        self.scalars(stage.replace(" ", ""), {**values, "lr": lr, "images_per_second": images_per_second}, step)

    def end_epoch(self, stage: str, epoch: int, values: dict[str, float]) -> None:
        """Log the epoch's mean losses."""
        lr, speed = self.last
        logger.info("%s epoch %d: %s  lr %.2e  %.0f img/s", stage, epoch, _losses(values), lr, speed)

    def scalars(self, prefix: str, values: dict[str, Any], step: int) -> None:
        """Record the numbers among some values."""
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
        """A bar for other long work; call the given function with what has been done since."""
        bar = self.progress.add_task(text, total=total, note="")
        try:
            yield lambda done: self.progress.advance(bar, done)
        finally:
            self.progress.remove_task(bar)

    @contextmanager
    def tracking(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for work that knows how far it is: call the given function with what is done, and of how much."""
        bar = self.progress.add_task(text, total=None, note="")
        try:
            yield lambda done, total: self.progress.update(bar, completed=done, total=total)
        finally:
            self.progress.remove_task(bar)


def _losses(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
