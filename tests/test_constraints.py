"""`constraints.txt` pins everything that `make setup` installs, on each Python that CI runs."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
PYTHONS = CI["jobs"]["test"]["strategy"]["matrix"]["python"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def requirements_of(name, extras, environment):
    """What an installed distribution requires; nothing where it is not installed here."""
    try:
        listed = [Requirement(text) for text in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return
    for requirement in listed:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            yield requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_required_is_pinned_to_a_version_that_is_allowed(python):
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    waiting = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in PINS, f"{requirement} is not pinned"
        assert requirement.specifier.contains(PINS[name]), f"{requirement}, but {PINS[name]} is pinned"
        if (name, frozenset(requirement.extras)) not in seen:
            seen.add((name, frozenset(requirement.extras)))
            waiting += requirements_of(name, requirement.extras, environment)
    assert len(seen) > 50


def test_the_oldest_python_of_ci_is_the_oldest_that_is_supported():
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    versions = [f"Programming Language :: Python :: {python}" for python in PYTHONS]
    assert versions == [line for line in PROJECT["classifiers"] if line.startswith("Programming Language")]
