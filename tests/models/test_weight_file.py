"""Files given as weights: what they are is said, nothing in them is executed, torch's dangerous advice stays away."""

import argparse
import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from svllreid.errors import CheckpointError
from svllreid.models import weight_file
from svllreid.models.clip import load_clip
from svllreid.models.weight_file import is_web_page, read_state

STATE = {"image_encoder.conv1.weight": torch.arange(12.0).view(3, 4), "classifier.weight": torch.ones(2)}


class Net(nn.Module):
    """A whole model, as torch.save(model) pickles it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(x)


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


@cache
def scripted():
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(Net(), torch.zeros(1, 2)), stream)
    return stream.getvalue()


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return stream.getvalue()


AGAIN, SAVE, UNPACK = "download or copy it again", r"torch\.save\(model\.state_dict\(\), 'weights\.pth'\)", "unpack it"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 599\n"
FILES = {
    "empty": (b"", "it is empty", AGAIN),
    "web page": (b"\xef\xbb\xbf\n <!DOCTYPE html><html>Quota exceeded", "it is a web page", "in a browser"),
    "bare page": (b"<html><body>Sign in</body></html>", "it is a web page", "in a browser"),
    "error as XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page", "in a browser"),
    "pointer": (LFS, "it is a pointer of Git LFS", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s5--ab.pth\n", "git-annex", "fetch the file itself"),
    "text": (b"hello\nworld\n", "it is a text file that begins 'hello'", AGAIN),
    "long text": ("Größe ".encode() * 300, "it is a text file that begins 'Größe", AGAIN),
    "json": (b'{"message": "Not Found"}', r'it is a text file that begins \'{"message": "Not Found"}\'', AGAIN),
    "gzip": (gzip.compress(b"x" * 99), "it is a gzip archive", UNPACK),
    "tar": (tarred(), "it is a tar archive", UNPACK),
    "zip": (zipped({"weights": saved(STATE)}), r"it is a ZIP archive of other files \(weights\)", UNPACK),
    "npz": (zipped({"a.npy": b"x"}), r"it is a ZIP archive of other files \(a\.npy\)", UNPACK),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file", "a file of PyTorch or safetensors"),
    "noise": (np.random.default_rng(0).bytes(900), "neither by PyTorch nor as safetensors, or is damaged", AGAIN),
    "whole model": (saved(Net()), r"holds Python objects \(.*\.Net\), as whole models", SAVE),
    "part of torch": (saved(nn.Linear(2, 2)), r"Python objects \(torch\.nn\.modules\.linear\.Linear\)", SAVE),
    "old whole model": (saved(Net(), _use_new_zipfile_serialization=False), r"Python objects \(.*\.Net\)", SAVE),
    "settings beside": (saved({"model": STATE, "args": argparse.Namespace(a=1)}), r"\(argparse\.Namespace\)", SAVE),
    "pickle": (pickle.dumps({"a": 1}), "it is a pickle that torch.save did not write", SAVE),
    "numbers": (saved({"a": 1}), "holds a dict without named tensors", SAVE),
    "a list": (saved([torch.ones(1)]), "holds a list without named tensors", SAVE),
    "numbered": (saved({1: torch.ones(1)}), "holds a dict without named tensors", SAVE),
    "other pickle": (saved(STATE, pickle_protocol=4), "it is damaged, or holds more than tensors", SAVE),
    "cut": (saved(STATE)[:-50], "it is damaged or incomplete", AGAIN),
    "cut program": (lambda: scripted()[:-50], "it is damaged or incomplete", AGAIN),
    "program without code": (zipped({"a/constants.pkl": b"x", "a/data.pkl": b"x"}), "it is damaged", AGAIN),
    "cut old file": (saved(STATE, _use_new_zipfile_serialization=False)[:-9], "damaged or incomplete", AGAIN),
    "cut safetensors": (save(STATE)[:-3], "it is damaged or incomplete", AGAIN),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", FILES)
def test_what_holds_no_weights_is_named_with_what_to_do(kind, suffix, tmp_path):
    content, what, advice = FILES[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(CheckpointError, match=rf"(?s)^{path} .*{what}.*; .*{advice}") as error:
        read_state(path)
    assert "weights_only" not in str(error.value) and len(str(error.value).splitlines()) == 1


def test_an_archive_that_would_fill_the_memory_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_file, "_UNFOLDED_BYTES", 1 << 20)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    (tmp_path / "a.pth").write_bytes(zipped({"a/data.pkl": b"x", "a/data/0": bytes(5 << 20)}))
    with pytest.raises(CheckpointError, match=r"would unfold to 0\.0 GB in memory, which no file of weights does"):
        read_state(tmp_path / "a.pth")


def test_a_view_of_one_number_is_not_unfolded(tmp_path):
    (tmp_path / "a.pth").write_bytes(saved({"image_encoder.a": torch.zeros(1).half().expand(1 << 36)}))
    with pytest.raises(CheckpointError, match=r"would unfold to 137\.4 GB in memory, which no file of weights does"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("kind", ["web page", "whole model", "cut program"])
def test_clips_weights_are_refused_in_the_same_words(kind, tmp_path):
    content, what, _ = FILES[kind]
    (tmp_path / "clip.pt").write_bytes(content() if callable(content) else content)
    with pytest.raises(CheckpointError, match=what) as error:
        load_clip("tiny", str(tmp_path / "clip.pt"))
    assert "weights_only" not in str(error.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(STATE))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("svllreid.models.weight_file._start_of", refuse)
    with pytest.raises(CheckpointError, match=r"it cannot be opened \(Permission denied\); allow reading it"):
        read_state(path)


@pytest.mark.parametrize("name", ["nothing.pth", "x" * 300, "\0"])
def test_no_such_file(name, tmp_path):
    with pytest.raises(CheckpointError, match="no weight file"):
        read_state(tmp_path / name)
    with pytest.raises(CheckpointError, match="neither a file nor a tag"):
        load_clip("tiny", name)


GOOD = {
    "torch": saved(STATE),
    "old torch": saved(STATE, _use_new_zipfile_serialization=False),
    "safetensors": save(STATE),
    "ordered": saved(OrderedDict(STATE)),
    "lightning": saved({"state_dict": STATE, "epoch": 3, "callbacks": {}, "optimizer_states": [{"a": torch.ones(1)}]}),
    "nested": saved({"epoch": 1, "model": {"state_dict": STATE}}),
    "other names": saved({"net": STATE, "best": 0.5}),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", GOOD)
def test_weights_are_told_by_content_whatever_the_file_is_called(kind, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(GOOD[kind])
    found = read_state(path)
    assert found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_programs_give_their_weights(tmp_path):
    (tmp_path / "a.pt").write_bytes(scripted())
    assert set(read_state(tmp_path / "a.pt")) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors", "lightning", "program"])
def test_damaged_files_give_weights_or_our_error(kind, tmp_path):
    whole = scripted() if kind == "program" else GOOD[kind]
    random, path = np.random.default_rng(1), tmp_path / "weights.pth"
    refused = 0
    for number in range(60):
        content = bytearray(whole if number % 3 else whole[: random.integers(len(whole))])
        for place in random.integers(len(content) or 1, size=random.integers(1, 4) if content else 0):
            content[place] ^= 1 << random.integers(8)
        path.write_bytes(content)
        try:
            assert isinstance(read_state(path), dict)
        except CheckpointError as error:
            refused += 1
            assert "weights_only" not in str(error)
    assert refused > 20


def test_a_web_page_is_recognised(tmp_path):
    for content, page in ((b"<HTML>", True), (b"  <!doctype html>", True), (b"html", False), (b"", False)):
        (tmp_path / "a").write_bytes(content)
        assert is_web_page(tmp_path / "a") == page
