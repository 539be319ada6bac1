"""The examples in docstrings run as they are written, and every public name has one."""

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

import svllreid

PACKAGE = Path(svllreid.__file__).parent
# Only these are imported here: the others have no example.
MODULES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)
# Records that functions return, and the function whose result their example shows.
MAKERS = {"Ranking": "evaluate_ranking", "Verification": "verify_features"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples write their files
    with torch.random.fork_rng(devices=[]):
        result = doctest.testmod(import_module(name), optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    assert result.attempted > 0, f"{name} has '>>> ' outside of docstrings"
    assert result.failed == 0, "see what doctest printed"


@pytest.mark.parametrize("name", svllreid.__all__)
def test_a_public_name_has_an_example_that_uses_it(name):
    docstring = inspect.getdoc(getattr(svllreid, name))
    code = "".join(example.source for example in doctest.DocTestParser().get_examples(docstring))
    assert re.search(rf"\b{MAKERS.get(name, name)}\b[(.]", code)
