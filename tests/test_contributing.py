"""The examples of CONTRIBUTING.md run, and do what their recipes say."""

import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from svllreid.data import readers
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.embedding.loop import embed
from svllreid.models.prompt_augmentations import AUGMENTATIONS, PromptAugmentation
from svllreid.training.hooks import Hook
from svllreid.types import Batch

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"### (.*?)\n(.*?)(?=\n##)", TEXT, re.S))
EXAMPLES = {title: re.findall(r"```python\n(.*?)```", recipe, re.S) for title, recipe in RECIPES.items()}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The only example of a recipe as the module that a contributor would write."""

    def load(title):
        [code] = EXAMPLES[title]
        file = tmp_path / "example.py"
        file.write_text(code, encoding="utf-8")
        spec = spec_from_file_location("contributed_example", file)
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # pydantic reads the docstrings of keys there
        spec.loader.exec_module(module)
        return module

    return load


def test_every_example_is_tested_here():
    tested = set(re.findall(r'example\("(.*?)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert {title for title, codes in EXAMPLES.items() if codes} == tested
    assert sum(map(len, EXAMPLES.values())) == TEXT.count("```python"), "an example outside of the recipes"


def test_files_that_the_recipes_name_exist():
    named = set(re.findall(r"`((?:src|tests|docs)/[\w/.-]+)`", TEXT))
    assert len(named) > 15
    assert [name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()] == []


def test_dataset(example, tmp_path, monkeypatch):
    shop = example("A dataset").SHOP
    for pid, folders in {
        1: ["bounding_box_train"],
        2: ["bounding_box_train"],
        3: ["query", "bounding_box_test"],
    }.items():
        for folder in folders:
            (tmp_path / "shop-reid" / folder).mkdir(parents=True, exist_ok=True)
            for camera in (1, 2):
                Image.new("RGB", (4, 8)).save(tmp_path / "shop-reid" / folder / f"{pid:04d}_c{camera}_1.png")
    monkeypatch.setitem(readers.DATASETS, shop.name, shop)
    splits = readers.read("shop", tmp_path)
    assert [(sample.pid, sample.camid) for sample in splits.train] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    published, counted = shop.published, {name: len(getattr(splits, name)) for name in ("query", "gallery")}
    assert (published.query, published.gallery) == (counted["query"], counted["gallery"])


def test_prompt_augmentation(example, monkeypatch):
    drop = example("A prompt augmentation").drop_tokens
    monkeypatch.setitem(AUGMENTATIONS, "drop", drop)
    dropped = PromptAugmentation("drop", 0.25)(torch.ones(100, 77, 4), torch.Generator().manual_seed(0))
    kept = dropped.mean(dim=2)
    assert set(kept.unique().tolist()) == {0, 1} and kept.mean().item() == pytest.approx(0.75, abs=0.03)


def test_loss(example):
    loss = example("A self-supervised loss of stage 2").barlow_loss
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], requires_grad=True)
    assert loss(one, 3 * one + 1).item() == pytest.approx(0, abs=1e-9), "equal but for scale and shift"
    assert loss(one, one.flip(1)).item() == pytest.approx(2 + 2 * 0.005), "the other dimension, not the same"
    other = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert loss(one, other).item() == pytest.approx(loss(other, one).item())
    loss(one, other).backward()
    assert one.grad.abs().sum() > 0


def test_hook(example):
    task = SimpleNamespace(margin=None)
    hook = example("Something that happens during training").MarginWarmup(task, margin=0.3, epochs=3)
    margins = []
    for epoch in (1, 2, 3, 4):
        hook.before_epoch(epoch)
        margins.append(task.margin)
    assert isinstance(hook, Hook) and margins == pytest.approx([0.1, 0.2, 0.3, 0.3])


def test_back_end(example, tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    images = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.export.save(torch.export.export(network, (images,)), tmp_path / "network.pt2")
    settings = {"image_size": (2, 2), "pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3, "neck": "before"}
    settings |= {"flip": False, "sie_camera": False, "sie_view": False, "sie_coe": 0.0, "sie_table": ""}
    spec = EmbeddingSpec("0f3a", dim=4, normalized=False, precision="32", **settings)
    embedder = example("A back end that computes features").ProgramEmbedder(tmp_path / "network.pt2", spec)
    unknown = torch.full((2,), -1)
    table = embed(embedder, [Batch(images, unknown, unknown, unknown)] * 2)
    torch.testing.assert_close(table.vectors, network(images).detach().repeat(2, 1))
    assert table.spec == spec


def test_key(example):
    section = example("A key of the configuration").Test
    assert section().num_worst == 20 and section(NUM_WORST=0).num_worst == 0
    assert section.model_fields["num_worst"].description.startswith("Queries that the page")
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        section(NUM_WORST=-1)


def test_writer(example, tmp_path):
    for step in (1, 2):
        writer = example("A writer of scalars").JsonLinesWriter(tmp_path / "scalars.jsonl")
        writer.add_scalar("stage1/loss", 0.5, step)
        writer.close()
    lines = (tmp_path / "scalars.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"name": "stage1/loss", "step": n, "value": 0.5} for n in (1, 2)]


def test_command(example, market):
    app = typer.Typer()
    app.command()(example("A command").cameras)
    result = CliRunner().invoke(app, [str(market), "--name", "market1501"])
    assert (result.exit_code, result.output.strip()) == (0, "2"), result.output
