"""Labelled people and a model, for the jobs that calibrate and decide."""

import csv

import pytest

from ..conftest import draw_person
from .test_embedding_files import checkpoint


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A table of 12 people with four images each, in two cameras."""
    folder = tmp_path_factory.mktemp("labelled")
    with (folder / "people.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "pid", "camid", "split"])
        for pid in range(12):
            for shot in range(4):
                draw_person(pid, shot).save(folder / f"{pid}_{shot}.png")
                table.writerow([f"{pid}_{shot}.png", f"p{pid}", shot % 2, "query" if shot == 0 else "gallery"])
    return folder / "people.csv"


@pytest.fixture
def weights(small_config, tmp_path):
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False})
    return checkpoint(config, 2, tmp_path / "weights" / "model.pth")
