"""What importing the package does and does not do."""

import subprocess
import sys

import pytest

import svllreid


def test_public_names_are_there():
    for name in svllreid.__all__:
        assert getattr(svllreid, name) is not None
    assert set(svllreid.__all__) <= set(dir(svllreid))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = svllreid.nothing


def test_import_is_light():
    code = "import sys, svllreid; print([m for m in ('torch', 'PIL', 'matplotlib', 'open_clip') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_is_light():
    code = "import sys, svllreid.cli.main; print([m for m in ('torch', 'open_clip', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
