"""Other operating systems, simulated by removing what they lack."""

import importlib
import os
import pickle
import pkgutil
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import svllreid
from svllreid import build, machine
from svllreid.data import cache as cache_module
from svllreid.data.cache import CacheSpec
from svllreid.data.loader import _ignore_signals

UNIX_MODULES = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog")
UNIX_CALLS = ("sysconf", "posix_fallocate")


@pytest.fixture
def windows(monkeypatch):
    """Modules and functions that Windows does not have are missing."""
    for name in UNIX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    for name in UNIX_CALLS:
        monkeypatch.delattr(os, name)


def own_modules():
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "svllreid"}


def test_every_module_imports_without_what_windows_lacks(windows):
    before = own_modules()
    names = [info.name for info in pkgutil.walk_packages(svllreid.__path__, "svllreid.")]
    assert len(names) > 90
    try:
        for name in before:
            del sys.modules[name]
        for name in names:
            importlib.import_module(name)
    finally:
        for name in own_modules():
            del sys.modules[name]
        sys.modules.update(before)


def test_nothing_in_the_package_is_a_link():
    package = Path(svllreid.__file__).parent
    assert not [path for path in package.rglob("*") if path.is_symlink()]
    assert (package / "configs" / "person" / "vit_svllreid.yml").is_file()


@pytest.mark.parametrize("door", ["train_svllreid.py", "test_svllreid.py", "src/svllreid/__main__.py"])
def test_spawned_processes_may_import_the_doors(door):
    """Where processes are not forked each of them imports the file that was started, under another name."""
    runpy.run_path(str(Path(__file__).parents[1] / door), run_name="__mp_main__")


@pytest.mark.parametrize("augment_on", ["cpu", "device"])
def test_what_worker_processes_get_can_be_sent_to_them(augment_on, small_config, market):
    config = small_config({"INPUT.AUGMENT_ON": augment_on})
    data = build.TrainingData.of(build.load_dataset("market1501", market).train)
    fabric = build.build_fabric(config, "cpu")
    for loader in (
        build.build_train_loader(config, data, build.build_sampler(config, data), fabric),
        build.build_test_loader(config, data.samples, fabric),
    ):
        sent = loader.dataset, loader.collate_fn, _ignore_signals
        dataset, collate, _ = pickle.loads(pickle.dumps(sent))
        batch = collate([dataset[key] for key in next(iter(loader.batch_sampler))])
        assert len(batch[0]) > 1


def test_memory_is_told_here():
    assert 10**7 < machine.peak_memory() < machine.physical_memory()
    assert 0 < machine.free_memory() <= machine.physical_memory()


def test_memory_is_not_known_where_nothing_tells(windows, monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda _: Path("/nowhere"))
    assert (machine.peak_memory(), machine.physical_memory(), machine.free_memory()) == (None, None, None)


def test_the_image_cache_opens_where_free_memory_is_not_known(monkeypatch, caplog):
    monkeypatch.setattr(cache_module, "free_memory", lambda: None)
    monkeypatch.setattr(cache_module, "SHARED_MEMORY", Path("/nowhere"))
    with caplog.at_level("INFO", logger="svllreid"):
        CacheSpec("memory", (Path("a"),), (2, 2), Path(), shared=False).open()
    assert "does not tell how much memory is free" in caplog.text


def test_windows_never_asks_by_signal_and_goes_by_age(monkeypatch, tmp_path):
    file = tmp_path / f".model.pth.{os.getpid()}"
    file.touch()
    ends_the_process = SimpleNamespace(name="nt", kill=lambda *_: pytest.fail("os.kill ends processes on Windows"))
    monkeypatch.setattr(machine, "os", ends_the_process)
    assert not machine.left_behind(file, 4194999)
    day_old = file.stat().st_mtime - 25 * 3600
    os.utime(file, (day_old, day_old))
    assert machine.left_behind(file, os.getpid())


def test_elsewhere_the_process_is_asked_for(tmp_path):
    assert not machine.left_behind(tmp_path, os.getpid())
    assert not machine.left_behind(tmp_path, 1)
    assert machine.left_behind(tmp_path, 4194999)
    assert not machine.left_behind(tmp_path, 10**30), "no process has such a number: not a file of ours"
