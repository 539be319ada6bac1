"""BoxMOT gets the features that `Encoder` gives, though it normalises images in another way."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from svllreid import Encoder
from svllreid.cli.main import run
from svllreid.embedding import boxmot
from svllreid.embedding.boxmot import IMAGENET_MEAN, IMAGENET_STD, boxmot_module, check_boxmot_name, write_boxmot
from svllreid.errors import OutputError

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS, re.S)
# What the documented blocks need: a frame with people, and their boxes as a detector gives them.
PEOPLE = """
import numpy as np
frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
boxes = np.array([(5, 10, 40, 110), (60, 8, 100, 118)], dtype=np.float64)
detections = np.column_stack([boxes, [0.9, 0.8], [0, 0]])
"""
# What BoxMOT 25 installs by itself on first use, if it is not there.
PACKAGES = ("boxmot==25.0.0", "onnxruntime==1.24.3", "onnx", "onnxscript")
SETTINGS = {
    "default": {},
    "after the neck, with the mirrored image, not normalised": {
        "TEST.NECK_FEAT": "after", "TEST.FLIP": True, "TEST.FEAT_NORM": "no",
    },
    "another normalisation": {"INPUT.PIXEL_MEAN": [0.3, 0.4, 0.5], "INPUT.PIXEL_STD": [0.2, 0.25, 0.3]},
}  # fmt: skip


@pytest.mark.parametrize("overrides", SETTINGS.values(), ids=SETTINGS)
def test_features_are_those_of_the_encoder(checkpoint, small_config, overrides):
    encoder = Encoder.load(checkpoint, small_config({"MODEL.USE_TEXT": False, **overrides}), device="cpu")
    height, width = encoder.spec.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    normalised = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
    network = boxmot_module(encoder.embedder)
    assert not network.training
    with torch.inference_mode():
        features = network(normalised).numpy()
    np.testing.assert_allclose(features, encoder.encode(images), rtol=0, atol=1e-4 * np.abs(features).max())


def test_the_command_writes_what_boxmot_takes(checkpoint, tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    for words, code, text in (
        (["-o", str(tmp_path / "a.onnx"), "--for", "boxmot"], 0, "smallest cosine with PyTorch 1.0000"),
        (["-o", str(tmp_path / "a.onnx"), "--for", "boxmot", "--int8"], 2, "leave out the other options"),
        (["-o", str(tmp_path / "a.onnx"), "--for", "deepsort"], 2, "--for deepsort: unknown"),
        (["-o", str(tmp_path / "a.xml"), "--for", "boxmot"], 2, "ends in .onnx"),
    ):
        monkeypatch.setattr(sys, "argv", ["svllreid", "export", str(checkpoint), *words])
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        assert end.value.code == code and text in captured.out + captured.err
    encoder = Encoder.load(checkpoint, device="cpu")
    height, width = encoder.spec.image_size
    images = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    normalised = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    features = session.run(None, {"images": normalised.transpose(0, 3, 1, 2).astype(np.float32)})[0]
    np.testing.assert_allclose(features, encoder.encode(images), atol=1e-4)


def test_joint_features_are_refused(checkpoint):
    embedder = Encoder.load(checkpoint, device="cpu").embedder
    embedder.neck = "joint"
    with pytest.raises(ValueError, match="not the joint ones"):
        boxmot_module(embedder)


def test_the_suffix_counts():
    check_boxmot_name(Path("people.ONNX"))
    with pytest.raises(OutputError, match=r"people\.pt: .* ends in \.onnx"):
        check_boxmot_name(Path("people.pt"))


def test_the_file_takes_any_number_of_images(checkpoint, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    embedder = Encoder.load(checkpoint, device="cpu").embedder
    assert write_boxmot(embedder, tmp_path / "people.onnx") > 0.99999
    assert [file.name for file in tmp_path.iterdir()] == ["people.onnx"]
    assert str(ROOT).encode() not in (tmp_path / "people.onnx").read_bytes()
    session = runtime.InferenceSession(str(tmp_path / "people.onnx"), providers=["CPUExecutionProvider"])
    height, width = embedder.spec.image_size
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [3, height, width])
    assert made.name == "features"
    for count in (1, 5):
        images = np.zeros((count, 3, height, width), np.float32)
        assert session.run(None, {"images": images})[0].shape == (count, embedder.dim)


def test_a_file_with_other_features_is_not_written(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(boxmot, "MIN_COSINE", 1.1)
    with pytest.raises(OutputError, match=r"people\.onnx is not written: the cosine"):
        write_boxmot(Encoder.load(checkpoint, device="cpu").embedder, tmp_path / "people.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OutputError, match="without onnxruntime; install onnx"):
        write_boxmot(Encoder.load(checkpoint, device="cpu").embedder, tmp_path / "people.onnx")


@pytest.fixture
def workplace(checkpoint, tmp_path):
    """A folder with the model that the documented code loads."""
    (tmp_path / "outputs" / "people").mkdir(parents=True)
    for suffix in (".pth", ".json"):
        shutil.copy(checkpoint.with_suffix(suffix), tmp_path / "outputs" / "people" / f"tiny_10{suffix}")
    return tmp_path


def test_the_documented_predictor(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names = {}
    for block in (PEOPLE, *BLOCKS[:2]):
        exec(compile(block, "docs/tracking.md", "exec"), names)
    predictor = names["Predictor"]("outputs/people/tiny_10.pth", device="cpu")
    boxes = np.vstack([names["boxes"], (500, 5, 540, 90), (-20, -20, 30, 30)])
    features = predictor.get_features(boxes, names["frame"])
    np.testing.assert_allclose(features[:2], names["features"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), [1, 1, 0, 1], atol=1e-5)
    assert predictor.get_features(boxes[:0], names["frame"]).shape == (0, names["encoder"].spec.dim)


# Runs where BoxMOT is installed: writes the file, and prints how far its features are from those of `Encoder`.
SCRIPT = """
import logging, sys
import numpy as np
from boxmot.reid.core.runtime import ReID
from svllreid import Encoder
from svllreid.embedding.boxmot import write_boxmot
from svllreid.rendered import draw_image, make_camera

weights, file = sys.argv[1:]
encoder = Encoder.load(weights, device="cpu")
height, width = encoder.spec.image_size
write_boxmot(encoder.embedder, file)
reid = ReID(file)

def cosines(size):
    camera = make_camera(0, 0, size)
    people = [np.asarray(draw_image(0, pid, camera, 0, size)) for pid in range(5)]
    frame = np.hstack(people)[..., ::-1].copy()
    boxes = np.array([(k * size[1], 0, (k + 1) * size[1], size[0]) for k in range(5)], dtype=float)
    ours = encoder.encode_boxes(frame, boxes, channel_order="bgr")
    return (ours * reid(frame, boxes)).sum(axis=1).min()

print("cosines", cosines((height, width)), cosines((4 * height, 4 * width)))
"""


@pytest.fixture(scope="module")
def boxmot_python(tmp_path_factory):
    """The interpreter of an environment with BoxMOT, which sees the packages of this one, so that torch is there."""
    folder = tmp_path_factory.mktemp("boxmot")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "this_environment.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True, timeout=500, check=False
    )
    if install.returncode:
        pytest.skip(f"BoxMOT could not be installed: {install.stderr.strip().splitlines()[-1]}")
    return python


def run_in(python, folder, *words):
    """What a process of another interpreter prints, with svllreid of this repository."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([python, *words], env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="BoxMOT 25 needs a Python before 3.14")
def test_boxmot_gives_the_features_of_the_encoder(boxmot_python, checkpoint, tmp_path):
    output = run_in(boxmot_python, tmp_path, "-c", SCRIPT, checkpoint, tmp_path / "people.onnx")
    same, resized = map(float, output.splitlines()[-1].split()[1:])
    assert same >= 0.99999  # crops of the network's size, which nobody resizes
    assert resized >= 0.98  # Pillow averages over all pixels where OpenCV takes four


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="BoxMOT 25 needs a Python before 3.14")
def test_the_documented_trackers(boxmot_python, workplace):
    code = "\n".join((PEOPLE, *BLOCKS, "print(tracks[:, 4], tracker.update(detections, frame)[:, 4])"))
    assert run_in(boxmot_python, workplace, "-c", code).endswith("[0. 1.] [0. 1.]\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="BoxMOT 25 needs a Python before 3.14")
def test_the_tracking_benchmark(boxmot_python, workplace):
    words = ["outputs/people/tiny_10.pth", "--videos", "1", "--frames", "30", "--strip", "strip.png"]
    output = run_in(boxmot_python, workplace, ROOT / "benchmarks" / "tracking.py", *words)
    for tracker in ("botsort", "strongsort", "deepocsort"):
        assert f"| {tracker} | none |" in output and f"| {tracker} | tiny_10.pth |" in output
    assert (workplace / "strip.png").is_file()
