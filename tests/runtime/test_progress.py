"""The log, the bars and the scalars."""

import io
import logging
import re

import pytest
from rich.console import Console

from svllreid.errors import OutputError
from svllreid.runtime.progress import LiveReport, logging_to

logger = logging.getLogger("svllreid.tests")


@pytest.fixture
def console():
    """Writes to `console.file`, like a terminal 60 characters wide."""
    return Console(file=io.StringIO(), width=60, force_terminal=False)


class Scalars:
    """A writer that keeps what it is given, or has no room."""

    def __init__(self, full=False):
        self.values, self.closed, self.full = [], False, full

    def add_scalar(self, name, value, step):
        if self.full:
            raise OSError(28, "No space left on device")
        self.values.append((name, value, step))

    def close(self):
        self.closed = True
        if self.full:
            raise OSError(28, "No space left on device")


def test_log_lines_are_unbroken_plain_and_in_the_file_too(console, tmp_path):
    file, path = tmp_path / "log.txt", "/data/[red]" + "x" * 80 + ":smile:.jpg"
    file.write_text("earlier\n")
    with logging_to(file, console):
        logger.info("%s is read", path)
        logger.debug("not for users")
    logger.info("after the end")
    printed, written = console.file.getvalue().splitlines(), file.read_text(encoding="utf-8").splitlines()
    assert len(printed) == 1 and re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(path)} is read", printed[0])
    assert written[0] == "earlier" and len(written) == 2
    assert re.fullmatch(rf"\d{{4}}-\S+ \S+ INFO {re.escape(path)} is read", written[1])


def test_the_log_of_before_comes_back_also_after_an_error(console, monkeypatch):
    package = logging.getLogger("svllreid")
    monkeypatch.setattr(package, "level", logging.ERROR)
    before = package.level, list(package.handlers)
    with pytest.raises(KeyboardInterrupt), logging_to(None, console):
        assert package.level == logging.INFO
        raise KeyboardInterrupt
    assert (package.level, package.handlers) == before


def test_a_file_name_that_is_not_utf_8_can_be_logged(console, tmp_path):
    with logging_to(tmp_path / "log.txt", console):
        logging.getLogger("svllreid").handlers[0].setLevel(logging.CRITICAL)  # a terminal has its own rules
        logger.info("gr\udcf6n.jpg")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith("gr\\udcf6n.jpg\n")


def test_the_bar_is_where_the_stage_is(console):
    with LiveReport(console) as report:
        bar = report.progress.tasks[0]
        assert not bar.visible
        report.start_epoch("stage 1", 2, 10, 5, done=3)
        assert (bar.visible, bar.completed, bar.total, bar.description) == (True, 8, 50, "stage 1 epoch 2/10")
        report.advance()
        assert bar.completed == 9
        report.step("stage 1", 9, {"loss": 1.25, "loss_id": 0.5}, lr=3.5e-4, images_per_second=99.6)
        assert bar.fields["note"] == "loss 1.2500  loss_id 0.5000  lr 3.5e-04  100 img/s"
        report.start_epoch("stage 2", 1, 4, 5, done=0)
        assert (bar.completed, bar.total, bar.fields["note"]) == (0, 20, "")


def test_steps_become_scalars_and_epochs_a_line_of_the_log(console):
    writers = [Scalars(), Scalars()]
    with logging_to(None, console), LiveReport(console, writers) as report:
        report.start_epoch("stage 2", 1, 4, 5, done=0)
        report.step("stage 2", 7, {"loss": 1.5}, lr=0.25, images_per_second=50.0)
        report.end_epoch("stage 2", 1, {"loss": 2.5})
        report.scalars("test", {"mAP": 0.5, "protocol": "cross-camera", "num_queries": 3}, 1)
    for writer in writers:
        assert writer.values == [
            ("stage2/loss", 1.5, 7),
            ("stage2/lr", 0.25, 7),
            ("stage2/images_per_second", 50.0, 7),
            ("test/mAP", 0.5, 1),
        ]
        assert writer.closed
    assert "stage 2 epoch 1: loss 2.5000  lr 2.50e-01  50 img/s" in console.file.getvalue()


def test_a_full_disk_is_one_message_and_every_writer_is_closed(console):
    writers = [Scalars(full=True), Scalars()]
    expected = pytest.raises(OutputError, match=r"scalars could not be written.*No space left")
    with expected, LiveReport(console, writers) as report:
        report.scalars("stage1", {"loss": 1.0}, 1)
    assert [writer.closed for writer in writers] == [True, True]


def test_other_work_has_a_bar_while_it_lasts(console):
    with LiveReport(console) as report:
        with report.counting("embedding", total=10) as done:
            done(3)
            done(4)
            assert (report.progress.tasks[-1].description, report.progress.tasks[-1].completed) == ("embedding", 7)
        with pytest.raises(ValueError), report.tracking("ranking") as done:
            done(2, 8)
            assert (report.progress.tasks[-1].completed, report.progress.tasks[-1].total) == (2, 8)
            raise ValueError
        assert len(report.progress.tasks) == 1


def test_a_log_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "log.txt").mkdir()
    with (
        pytest.raises(
            OutputError, match=r"log\.txt could not be written: Is a directory; .*name another output folder"
        ),
        logging_to(tmp_path / "log.txt", Console()),
    ):
        pass
