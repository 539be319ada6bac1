"""What importing the package does and does not do, and that its distributions hold all it needs."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import svllreid

ROOT = Path(__file__).parents[1]


def test_public_names_are_there():
    for name in svllreid.__all__:
        assert getattr(svllreid, name) is not None
    assert set(svllreid.__all__) <= set(dir(svllreid))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = svllreid.nothing


# Modules of libraries that another one, which is named, cannot do without, as the code catches their errors.
COME_WITH = {"grpc": "pymilvus", "requests": "gdown"}


def test_every_imported_library_is_named_in_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    named = {re.match(r"[\w-]+", one)[0].replace("_", "-").lower() for one in requirements}
    modules = set()
    for file in (ROOT / "src" / "svllreid").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules |= {name.partition(".")[0] for name in names}
    others = modules - set(sys.stdlib_module_names) - {"svllreid"}
    homes = importlib.metadata.packages_distributions()
    for module in sorted(others):
        distributions = {COME_WITH.get(module, name).replace("_", "-").lower() for name in homes.get(module, [module])}
        assert distributions & named, module


def test_import_is_light():
    code = "import sys, svllreid; print([m for m in ('torch', 'PIL', 'matplotlib', 'open_clip') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_is_light():
    code = "import sys, svllreid.cli.main; print([m for m in ('torch', 'open_clip', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the source archive, built by the tools of this environment from a copy of the sources."""
    folder = tmp_path_factory.mktemp("distributions")
    copy = folder / "sources"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = (
        "import sys; from setuptools import build_meta; print(getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2]))"
    )
    for kind in ("wheel", "sdist"):
        subprocess.run([sys.executable, "-c", code, kind, folder], cwd=copy, check=True, capture_output=True)
    files = {file.relative_to(copy / "src").as_posix() for file in (copy / "src" / "svllreid").rglob("*.*")}
    files = {name for name in files if "__pycache__" not in name}
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist, "files": files}


@pytest.mark.slow
def test_wheel_and_source_archive_hold_every_file_of_the_package(distributions):
    named = {"py.typed", "models/published.yml", "models/tiny_clip.safetensors", "models/tiny_clip.json"}
    named |= {"configs/person/vit_svllreid.yml"}
    assert {f"svllreid/{name}" for name in named} <= distributions["files"]
    assert any(name.startswith("svllreid/viz/") and name.endswith(".j2") for name in distributions["files"])
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        assert distributions["files"] <= set(wheel.namelist())
    with tarfile.open(distributions["sdist"]) as sdist:
        held = {name.partition("/src/")[2] for name in sdist.getnames()}
    assert distributions["files"] <= held


@pytest.fixture(params=["wheel", "sdist"])
def installed(request, distributions, tmp_path):
    """Runs the `svllreid` that was installed from a distribution, in a folder without the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    [own] = (tmp_path / "venv").rglob("site-packages")
    # The dependencies of this environment. Its own svllreid, if installed, comes after the one under test; an editable
    # one is not seen at all, as path files of such folders are not read.
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (own / "dependencies.pth").write_text("\n".join(folders) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", distributions[request.param]]
    subprocess.run([*pip, *options], env=environment, cwd=tmp_path, check=True)

    def run(*words):
        program = [scripts / "python", *words[1:]] if words[0] == "python" else [scripts / "svllreid", *words]
        done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_installed_package_works_without_the_checkout(installed, tmp_path):
    code = "import importlib.metadata, svllreid; print(importlib.metadata.version('svllreid'), svllreid.__file__)"
    version, home = installed("python", "-c", code).strip().split(" ", maxsplit=1)
    assert version == svllreid.__version__ and Path(home).is_relative_to(tmp_path / "venv")
    assert "train" in installed("--help")
    shown = installed("config", "show", "--config-file", "person/tiny_svllreid.yml")
    assert yaml.safe_load(shown)["MODEL"]["NAME"] == "tiny"
    assert "after both stages" in installed("demo", "demo", "--identities", "8")
    assert "<html" in (tmp_path / "demo" / "run" / "report.html").read_text(encoding="utf-8")
