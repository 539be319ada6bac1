"""The launcher of several processes, with small programs in place of those that train (runtime/test_processes.py)."""

import os
import signal
import sys
import time

import pytest

from svllreid.errors import DeviceError
from svllreid.jobs.launching import launch

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Puts a shell script in Python's place."""
    before = {number: signal.getsignal(number) for number in SIGNALS}  # the launcher's stay otherwise
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that the launcher leaves the environment as it is

    def write(text):
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    yield write
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_process_gets_the_words_and_its_number(program, tmp_path):
    program('echo "$* rank $RANK of $WORLD_SIZE" > $RANK')
    assert launch(2, "cpu", ["train", "A=b c"]) == 0
    expected = [f"-m svllreid train A=b c rank {number} of 2\n" for number in range(2)]
    assert [(tmp_path / str(number)).read_text() for number in range(2)] == expected


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("end", "code"), [("exit 2", 2), ("exit 1", 1), ("kill -9 $$", 1)])
def test_one_that_ends_early_ends_the_others(program, tmp_path, capfd, end, code):
    program(f"echo $$ > $RANK\n[ $RANK = 0 ] && exec sleep 60\nwhile [ ! -s 0 ]; do sleep 0.01; done\n{end}")
    before = time.monotonic()
    assert launch(2, "cpu", []) == code
    assert time.monotonic() - before < 50 and not is_running(int((tmp_path / "0").read_text()))
    err = capfd.readouterr().err
    told = f"process 1 of 2 ended with code {-9 if 'kill' in end else code}, so the others were stopped"
    assert (told in err and "The same command continues" in err) == (code != 2), "a user's mistake has been told"


@pytest.mark.parametrize(("processes", "device", "words"), [(0, "cpu", "ask for 1"), (2, "cuda:1", "leave one")])
def test_what_cannot_be_launched_is_refused(processes, device, words):
    with pytest.raises(DeviceError, match=words):
        launch(processes, device, [])
