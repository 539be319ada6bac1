"""Calls the command line in this process, and checks what users may see of it."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from campaign import Campaign, snapshot, temporary_files

from svllreid.cli.main import run
from svllreid.errors import ReidError

MOST_LINES = 80  # of a message


class Refused(ReidError):
    """A command ended with exit code 2; its text is the message."""


@dataclass(frozen=True)
class Called:
    """What came of a command: exit code, and what it said; without a word to say that is the help it printed."""

    code: int | str | None
    messages: str


def call(words: list[str], encoding: str = "utf-8") -> Called:
    """Run a command; what it raises goes through, as a user would see its traceback."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    try:
        with (
            redirect_stdout(streams[0]),
            redirect_stderr(streams[1]),
            mock.patch.object(sys, "argv", ["svllreid", *words]),
        ):
            run()
    except SystemExit as end:
        printed, said = (
            stream.buffer.getvalue().decode(encoding, "replace") for stream in streams if not stream.flush()
        )
        return Called(end.code, said if said.strip() else printed)
    raise AssertionError("the command did not end with an exit code")


def check_call(
    campaign: Campaign, case: str, called: Called, folder: Path, before: dict | None = None, leaves: tuple = ()
) -> None:
    """Exit code 0 or 2, with a message of ours; nothing half written, and after a mistake nothing changed.

    Args:
        campaign: gets what is wrong.
        case: what was tried.
        called: what came of it.
        folder: where the command may write.
        before: its files before; None: not compared.
        leaves: starts of the names of files that may change even so.
    Raises: Refused: exit code 2.
    """
    if leftovers := temporary_files(folder):
        campaign.fault(case, f"left half written: {leftovers}")
    if called.code == 0:
        return
    said = called.messages
    if called.code != 2:
        campaign.fault(case, f"exit code {called.code}: {said[-300:]}")
    ours = said.count("svllreid: ") + said.count("Usage: ") + said.count("Error: ")
    if not ours or len(said.splitlines()) > MOST_LINES:
        campaign.fault(case, f"said {said[-300:]!r}")
    if before is not None:
        after = snapshot(folder)
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        if changed := [name for name in changed if not Path(name).name.startswith(leaves or ("\0",))]:
            campaign.fault(case, f"files changed: {sorted(changed)[:5]}: {said[-200:]}")
    raise Refused(said)
