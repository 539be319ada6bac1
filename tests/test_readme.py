"""Commands of the README and of several files of docs run: small images, the backbone and the epochs made small."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import svllreid
from svllreid.cli.main import run
from svllreid.jobs import launching
from svllreid.rendered import recipe
from svllreid.types import Sample

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TESTING, TRAINING, TINY, EXPORT, GALLERY, PRIVACY, CLUSTERING = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("testing", "training", "tiny-clip", "export", "gallery", "privacy", "clustering")
)
DOCUMENTS = "".join((README, TESTING, TRAINING, TINY, EXPORT, GALLERY, PRIVACY, CLUSTERING))
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", DOCUMENTS, re.S)
    for line in block.splitlines()
    if line.strip()
]
# What the small settings turn the published epochs into.
SMALLER = {"ViT-B-16_stage1_120": "tiny_stage1_2", "ViT-B-16_60": "tiny_2", "tiny_10": "tiny_2"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, market):
    """The folders that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    source = market / "Market-1501-v15.09.15"
    shutil.copytree(source, folder / "data" / source.name)
    rows = ["path,pid,camid,split"]
    for split, images in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        for image in sorted((source / images).iterdir()):
            pid, camera, shot, _ = image.stem.split("_")
            target = folder / "data" / "mine" / split / pid / f"{pid}_{camera[:2]}_{shot}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
            rows.append(f"{target.relative_to(folder / 'data')},{pid},{int(camera[1]) - 1},{split}")
    (folder / "data" / "mine.csv").write_text("\n".join(rows) + "\n")
    names = ("query.jpg", "a.jpg", "b.jpg", "door.jpg", "lift.jpg")
    for name, image in zip(names, sorted((source / "query").iterdir()), strict=False):
        shutil.copy(image, folder / name)
    duke = folder / "data" / "dukemtmcreid" / "DukeMTMC-reID"
    for images in ("bounding_box_train", "query", "bounding_box_test"):
        (duke / images).mkdir(parents=True)
        for image in (source / images).iterdir():
            pid, camera, shot, _ = image.stem.split("_")
            shutil.copy(image, duke / images / f"{pid}_{camera[:2]}_f{shot}.jpg")
    return folder


def test_the_two_commands_stand_first_and_make_knows_them():
    assert [command.split()[:2] for command in COMMANDS[:2]] == [["make", "demo"], ["make", "test"]]
    for target in re.findall(r"`?make ([a-z-]+)", README):
        dry = ["make", "--dry-run", target]
        assert subprocess.run(dry, cwd=ROOT, capture_output=True, check=False).returncode == 0, target


@pytest.fixture(scope="module")
def ran(workplace):
    """Commands run so far: later ones test what earlier ones trained."""
    return {}


@pytest.fixture
def call(monkeypatch):
    """Runs a command in this process; its exit code."""

    def call(words):
        monkeypatch.setattr(sys, "argv", ["svllreid", *words])
        with pytest.raises(SystemExit) as end:
            run()
        return end.value.code

    def launch(processes, device, words):
        assert processes == 2
        return call(words)  # what each of the processes runs; runtime/test_processes.py starts two

    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(recipe, "TEST_SITES", 2)
    return call


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_command(command, workplace, ran, small_arguments, call, monkeypatch, capsys):
    for published, small in SMALLER.items():
        command = command.replace(published, small)
    words = shlex.split(command)
    words = (
        words[1:] if words[0] == "svllreid" else [re.fullmatch(r"(train|test)_svllreid\.py", words[1])[1], *words[2:]]
    )
    if words[0] in ("train", "test", "bench") and not (
        words[0] == "test" and "--config-file" not in words and "--config_file" not in words
    ):
        words += [word for word in small_arguments if not word.startswith("DATASETS.")]
    if words[0] == "pretrain":
        words += ["--sites", "1", "--epochs", "1", "--batch-size", "16"]
    if words[:2] == ["data", "synth"]:
        words[words.index("--identities") + 1] = "5"
    monkeypatch.chdir(workplace)
    if words[0] == "train" and "outputs/market" in words and "market" in ran:
        words.append("--fresh")
    assert call(words) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    ran["market" if "outputs/market" in words else command] = True
    assert "Traceback" not in captured.err


def test_python_example(workplace, monkeypatch):
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    monkeypatch.chdir(workplace)
    sample, feats = (Sample(Path("a.jpg"), 1, 0),), np.ones((1, 2), np.float32)
    for name in ("day", "night"):
        svllreid.FeatureSet(name, sample, sample, feats, feats, "cross-camera").save(f"{name}.npz")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TESTING, re.S):
        exec(compile(block, "docs/testing.md", "exec"), names)
    assert names["accepted"].shape == (200, 3000) and Path("both.npz").is_file()
    code = re.sub(r"tiny_\d+\.pth", "tiny_2.pth", code)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["distances"].shape == (1, 2)
    alone, ours = ({}, {})
    for block, names in zip(re.findall(r"```python\n(.*?)```", EXPORT, re.S), (alone, ours), strict=True):
        exec(compile(block, "docs/export.md", "exec"), names)
    np.testing.assert_allclose(alone["features"], ours["features"], atol=1e-5)
    names = {}
    block = re.search(r"```python\n(.*?)```", GALLERY, re.S)[1].replace("tiny_10", "tiny_2")
    exec(compile(block, "docs/gallery.md", "exec"), names)
    assert names["report"].added == 2 and len(names["hits"]) == 1


def test_shipped_files_that_the_readme_names_exist():
    shipped = ROOT / "src" / "svllreid" / "configs"
    for name in re.findall(r"configs/([\w/.]+\.yml)", README):
        assert (shipped / name).is_file(), name


def test_the_tree_of_the_readme_is_that_of_the_repository():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.S)[1]
    named, parents = set(), {0: ROOT}
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        path = parents[depth] / name
        assert path.exists(), path
        parents[depth + 1] = path
        named.add(path)
    package = ROOT / "src" / "svllreid"
    packages = {path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= named
    for folder in packages & {path.parent for path in named}:  # whose files are named one by one
        assert {path for path in folder.glob("*.py") if path.name != "__init__.py"} <= named


def test_nothing_is_left_to_fill_in():
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert not re.findall(r"@[A-Z]+@", file.read_text(encoding="utf-8")), file


def test_links_of_the_documents_lead_somewhere_and_every_page_is_linked():
    files = {file: file.read_text(encoding="utf-8") for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
    headings = {
        file: {
            re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
            for line in re.findall(r"^#+ (.*)", text, re.M)
        }
        for file, text in files.items()
    }
    linked = set()
    for file, text in files.items():
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, heading = target.partition("#")
            page = (file.parent / path).resolve() if path else file
            assert page.exists() and (not heading or heading in headings[page]), (file, target)
            linked |= {page} - {file}
    assert set(files) - {ROOT / "README.md"} <= linked


def test_every_key_that_the_readme_names_exists():
    from svllreid.config import known_keys

    known = {key for key, _ in known_keys()}
    named = set(
        re.findall(
            r"\b(?:MODEL|SOLVER|INPUT|TEST|DATASETS|DATALOADER)\.[A-Z0-9_.]+[A-Z0-9]", README + TESTING + TRAINING
        )
    )
    assert named <= known
    assert len(named) > 15
