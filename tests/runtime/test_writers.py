"""The writers of scalars."""

import csv
import sys
import types

import pytest

from svllreid.errors import ConfigError
from svllreid.runtime.writers import WRITERS, CsvWriter, WandbWriter, check_wandb, open_writers


def test_a_continued_table_goes_on(tmp_path):
    for step in (1, 2):
        writer = CsvWriter(tmp_path / "scalars.csv")
        writer.add_scalar("stage1/loss", 0.1 * step, step)
        writer.close()
    with (tmp_path / "scalars.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["step"], float(row["value"])) for row in rows] == [
        ("stage1/loss", "1", 0.1),
        ("stage1/loss", "2", 0.2),
    ]


def test_a_writer_with_a_project_is_opened_where_one_is_given(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setitem(
        WRITERS, "service", lambda *arguments: opened.append(arguments) or CsvWriter(tmp_path / "s.csv")
    )
    for projects, count in (({}, 2), ({"service": ""}, 2), ({"service": "people"}, 3)):
        writers = open_writers(tmp_path, projects, {"MODEL": {}})
        for writer in writers:
            writer.close()
        assert len(writers) == count
    assert opened == [(tmp_path, "people", {"MODEL": {}})]


def test_wandb_gets_the_curves_of_one_run(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, values):
            calls.append(values)

        def finish(self):
            calls.append("finished")

    fake = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or Run())
    monkeypatch.setitem(sys.modules, "wandb", fake)
    writer = WandbWriter(tmp_path / "market", "people", {"MODEL": {}})
    writer.add_scalar("stage2/loss", 1.5, 7)
    writer.close()
    assert (calls[0]["project"], calls[0]["id"], calls[0]["resume"]) == ("people", "market", "allow")
    assert calls[1:] == [{"stage2/loss": 1.5, "stage2/step": 7}, "finished"]


def test_wandb_that_is_not_installed_or_not_logged_in_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"svllreid\[wandb\]"):
        check_wandb()

    def refuse(**_):
        raise RuntimeError("no API key")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=refuse))
    with pytest.raises(ConfigError, match=r"people: no API key; log in"):
        WandbWriter(tmp_path, "people", {})
