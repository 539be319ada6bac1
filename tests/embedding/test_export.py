"""Exported files: the same features as PyTorch, in every kind of input, and what is refused."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from svllreid import Encoder, build_model, load_config
from svllreid.build import build_export_embedder
from svllreid.embedding import exported, formats
from svllreid.embedding.export import export_model
from svllreid.embedding.exported import Agreement, ExportRecord
from svllreid.embedding.formats import FORMATS
from svllreid.embedding.onnx import OnnxEmbedder
from svllreid.embedding.trials import TrialImages
from svllreid.errors import CheckpointError, ConfigError, DeviceError, EvaluationError, ExportError
from svllreid.types import SideRows


@pytest.fixture(scope="session")
def trained(checkpoint):
    """The encoder of the checkpoint, whose side information, necks and norm all matter."""
    return Encoder.load(checkpoint, device="cpu")


@pytest.fixture(scope="session")
def written(trained, tmp_path_factory):
    """The checkpoint as files, by format; made once."""
    folder, files = tmp_path_factory.mktemp("exported"), {}

    def write(kind="onnx"):
        if kind not in files:
            files[kind] = folder / f"tiny{FORMATS[kind].suffix}"
            export_model(trained.embedder, trained.side_rows, files[kind], kind=kind, version="1")
        return files[kind]

    return write


@pytest.fixture(scope="session")
def pictures():
    """Five pictures of several sizes."""
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (40 + 9 * row, 30, 3), dtype=np.uint8) for row in range(5)]


def network(settings, folder="person/tiny_svllreid.yml"):
    """An untrained network of a configuration, as it is exported."""
    config = load_config(folder, {"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False, **settings})
    return build_export_embedder(config, build_model(config, num_classes=1, num_cameras=2, clip="random"))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_encoder_computes_the_same_from_an_exported_file(kind, written, trained, pictures):
    encoder = Encoder.load(written(kind), device="cpu")
    assert (encoder.spec, encoder.side_rows) == (trained.spec, trained.side_rows)
    for camids in (None, 0, [0, 1, -1, 1, 0]):
        np.testing.assert_allclose(encoder.encode(pictures, camids), trained.encode(pictures, camids), atol=2e-5)
    alone = encoder.encode(pictures[0], 1)
    np.testing.assert_allclose(alone, trained.encode(pictures, 1)[:1], atol=2e-5)
    assert not np.allclose(alone, encoder.encode(pictures[0], 0), atol=1e-3), "the camera changes the feature"


@pytest.mark.parametrize("kind", ["torch-export", "torchscript"])
def test_files_of_pytorch_compute_the_same_without_this_package(kind, written, trained, pictures):
    file, extra = written(kind), {"svllreid.json": ""}
    if kind == "torchscript":
        with exported.quiet():
            program = torch.jit.load(str(file), _extra_files=extra)
    else:
        program = torch.export.load(file, extra_files=extra).module()
    record = ExportRecord.from_json(_text(extra), file)
    assert record.spec == trained.spec and record.agreement.minimum > 0.9999
    images = torch.stack([trained.resize(_pil(picture)) for picture in pictures])
    pixels = torch.from_numpy(exported.pixel_input(images, record.spec, "uint8"))
    rows = torch.tensor([0, 1, -1, 1, 0])
    np.testing.assert_allclose(program(pixels, rows).detach(), trained.encode(pictures, rows), atol=2e-5)


def _text(extra):
    content = extra["svllreid.json"]
    return content.decode() if isinstance(content, bytes) else content


def _pil(array):
    from PIL import Image

    return Image.fromarray(array)


def test_the_onnx_graph_is_as_the_metadata_says(written, trained):
    session = onnxruntime.InferenceSession(str(written()), providers=["CPUExecutionProvider"])
    content = json.loads(session.get_modelmeta().custom_metadata_map["svllreid"])
    images, rows = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, 32, 16])
    assert (rows.name, rows.type, rows.shape) == ("camera_rows", "tensor(int64)", ["batch"])
    assert content["input"]["shape"] == images.shape and content["input"]["colour_order"] == "RGB"
    assert content["input"]["mean"] == list(trained.spec.pixel_mean) and "Pillow" in content["input"]["resize"]
    assert content["embedding"] == trained.spec.to_dict() and content["agreement"]["images"] == 8
    assert content["side_rows"] == {"cameras": list(trained.side_rows.cameras), "views": list(trained.side_rows.views)}
    model = onnx.load(written())
    assert [entry.version for entry in model.opset_import if not entry.domain] == [
        formats.OPSET
    ] and formats.OPSET >= 18
    assert str(formats.__file__).encode() not in model.SerializeToString(), "no names of files on this machine"


def test_numbers_of_a_dataset_arrive(trained, tmp_path, pictures):
    rows = replace(trained.side_rows, cameras=(7, 40))
    export_model(trained.embedder, rows, tmp_path / "own.onnx")
    encoder = Encoder.load(tmp_path / "own.onnx", device="cpu")
    np.testing.assert_array_equal(encoder.encode(pictures, 40), _from(encoder, pictures, row=1))


def _from(encoder, pictures, row):
    images = torch.stack([encoder.resize(_pil(picture)) for picture in pictures])
    rows = torch.full((len(pictures),), row)
    return encoder.embedder(images, rows, rows).numpy()


@pytest.mark.parametrize("pixels", ["float", "normalised"])
def test_other_inputs(pixels, trained, pictures, tmp_path):
    export_model(trained.embedder, trained.side_rows, tmp_path / "m.onnx", pixels=pixels)
    encoder = Encoder.load(tmp_path / "m.onnx", device="cpu")
    np.testing.assert_allclose(encoder.encode(pictures), trained.encode(pictures), atol=2e-5)
    assert encoder.embedder.session.get_inputs()[0].type == "tensor(float)"


def test_pixels_come_back_exactly():
    spec = network({"MODEL.SIE_CAMERA": False}).spec
    spec = replace(spec, pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.pixel_mean, spec.pixel_std))
    normalised = (every.float() / 255 - mean) / std
    np.testing.assert_array_equal(exported.pixel_input(normalised, spec, "uint8"), every)
    np.testing.assert_allclose(exported.pixel_input(normalised, spec, "float"), every / 255, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"MODEL.SIE_CAMERA": False}, marks=pytest.mark.slow),
        {"MODEL.SIE_VIEW": True},
        {"TEST.NECK_FEAT": "after", "TEST.FLIP": True, "TEST.FEAT_NORM": "no"},
        pytest.param({"SOLVER.PRECISION": "bf16-mixed"}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings(settings, tmp_path):
    embedder = network({"INPUT.SIZE_TRAIN": [32, 16], "INPUT.SIZE_TEST": [32, 16], **settings})
    [made] = export_model(embedder, SideRows.counted(2, 1), tmp_path / "m.onnx")
    assert made.agreement.minimum > 0.9999 and made.embedder.spec == embedder.spec
    assert made.embedder.spec.precision == "32"
    assert len(made.embedder.session.get_inputs()) == 1 + embedder.spec.sie_camera + embedder.spec.sie_view


def test_other_features_are_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.FeatureGraph, "forward", lambda self, images, *rows: images.float().mean((2, 3)))
    (tmp_path / "m.onnx").write_text("of before")
    with pytest.raises(CheckpointError, match=r"it returns \(1, 3\)"):
        export_model(trained.embedder, trained.side_rows, tmp_path / "m.onnx")
    monkeypatch.undo()
    monkeypatch.setattr(Agreement, "of", classmethod(lambda cls, *features: cls(8, 0.99989, 1.0)))
    with pytest.raises(ExportError, match=r"onnx float32: the cosine .* 0\.999890, less than 0\.9999; nothing was wri"):
        export_model(trained.embedder, trained.side_rows, tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "of before"


def test_agreement():
    one = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert Agreement.of(np.array([[1.0, 1.0], [0.0, 1.0]]), one) == Agreement(2, 0.7071068, 0.8535534)
    assert Agreement.of(np.array([[np.nan, 1.0], [0.0, 0.0]]), one).minimum == -1


def test_trial_images_take_every_row_and_one_image_alone(trained):
    trial = TrialImages.random((32, 16), SideRows((3, 9), ()))
    assert trial.camera_rows[:4].tolist() == [-1, 0, 1, -1]
    sizes = []

    class Counting:
        spec = trained.spec

        def __call__(self, images, camids, viewids):
            sizes.append(len(images))
            return images.mean((2, 3))

    assert trial.features(Counting(), batch_size=5).shape == (8, 3) and sizes == [1, 5, 2]


@pytest.mark.parametrize("calibrated", [False, True], ids=["dynamic", "static"])
def test_int8(calibrated, trained, tmp_path):
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (12, 3, 32, 16), dtype=np.uint8))
    file = tmp_path / "int8.onnx"
    plain, int8 = export_model(
        trained.embedder, trained.side_rows, file, int8=True, real=noise, calibration=noise if calibrated else None
    )
    assert plain.agreement.minimum > 0.9999 and plain.agreement.images == 20
    assert int8.agreement.images == 12 and 0.98 < int8.agreement.minimum < 0.999999
    assert int8.size < 0.45 * plain.size and abs(file.stat().st_size - int8.size) < 100
    encoder = Encoder.load(file, device="cpu")
    assert encoder.spec == replace(trained.spec, precision="int8")
    assert encoder.embedder.record.agreement == int8.agreement
    assert encoder.spec.fingerprint == trained.spec.fingerprint, "they can be compared"


def test_int8_that_cannot_be_written(trained, tmp_path):
    for kind, message in (("torchscript", "float32 alone"), ("openvino", "needs images to calibrate")):
        with pytest.raises(ExportError, match=message):
            export_model(trained.embedder, trained.side_rows, tmp_path / "m", kind=kind, int8=True)


def test_int8_without_resemblance_is_not_written(trained, tmp_path, monkeypatch):
    agreements = iter([Agreement(8, 1.0, 1.0), Agreement(8, 0.2, 0.949)])
    monkeypatch.setattr(Agreement, "of", classmethod(lambda cls, *features: next(agreements)))
    with pytest.raises(ExportError, match=r"onnx int8 dynamic.*0\.949"):
        export_model(trained.embedder, trained.side_rows, tmp_path / "m.onnx", int8=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("library", "suffix", "extra"), [("onnxruntime", ".onnx", "export"), ("openvino", ".xml", "openvino")]
)
def test_a_missing_library_is_named_with_its_extra(library, suffix, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExportError, match=rf"needs {library}.*pip install 'svllreid\[{extra}\]'"):
        Encoder.load(tmp_path / f"m{suffix}")


def test_files_that_are_no_export(written, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.onnx does not exist"):
        Encoder.load(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"text\.onnx cannot be loaded by onnxruntime"):
        Encoder.load(tmp_path / "text.onnx")
    model = onnx.load(written())
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match=r"foreign\.onnx holds no record of svllreid.*svllreid export"):
        Encoder.load(tmp_path / "foreign.onnx", device="cpu")
    (tmp_path / "text.xml").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"text\.xml needs its weights text\.bin beside it"):
        Encoder.load(tmp_path / "text.xml")
    (tmp_path / "text.bin").touch()
    with pytest.raises(CheckpointError, match=r"text\.xml cannot be loaded by OpenVINO"):
        Encoder.load(tmp_path / "text.xml")


def test_external_data_outside_the_folder_is_refused(written, tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    model = onnx.load(written())
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "secret.bin").write_bytes(weight.raw_data)
    for location in ("../secret.bin", str(tmp_path / "secret.bin")):
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        del weight.external_data[:]
        weight.external_data.add(key="location", value=location)
        (inside / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match=r"xternal data"):
            Encoder.load(inside / "m.onnx", device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=2),
        lambda content: content["input"].update(pixels="uint16"),
        lambda content: content["embedding"].update(dim=7),
        lambda content: content["side_rows"].update(cameras=["a"]),
        lambda content: content.pop("agreement"),
    ],
)
def test_records_that_cannot_be_read(change, written, tmp_path):
    text = OnnxEmbedder(written(), "cpu").record.to_json()
    assert ExportRecord.from_json(text, tmp_path).to_json() == text
    content = json.loads(text)
    change(content)
    with pytest.raises(CheckpointError, match="its record cannot be read"):
        ExportRecord.from_json(json.dumps(content), tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match="its record cannot be read"):
        ExportRecord.from_json("[", tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, pixels="float"),
        lambda record: replace(record, spec=replace(record.spec, dim=7)),
        lambda record: replace(record, spec=replace(record.spec, image_size=(10, 10))),
        lambda record: replace(record, spec=replace(record.spec, sie_camera="yes")),
    ],
)
def test_a_record_of_another_model_is_refused(change, written, tmp_path):
    model = onnx.load(written())
    record = change(OnnxEmbedder(written(), "cpu").record).to_json()
    onnx.helper.set_model_props(model, {"svllreid": record})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match=r"m\.onnx: the model is not the one that its record describes"):
        Encoder.load(tmp_path / "m.onnx", device="cpu")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_threads_that_share_an_encoder_get_their_own_features(kind, written, pictures):
    encoder = Encoder.load(written(kind), device="cpu", batch_size=1)
    expected = encoder.encode(pictures)
    shares = [slice(start, None) for start in range(len(pictures))] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda share: encoder.encode(pictures[share]), shares))
    for share, features in zip(shares, found, strict=True):
        np.testing.assert_allclose(features, expected[share], atol=1e-5)


def test_devices_and_configurations(written, small_config):
    for device in ("tensorrt", "mps", "cuda:x", "cpu:3"):
        with pytest.raises(DeviceError, match=f"device {device}: "):
            Encoder.load(written(), device=device)
    for kind in ("onnx", "openvino"):
        assert Encoder.load(written(kind), device=torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(DeviceError, match="on the CPU"):
        Encoder.load(written("openvino"), device="cuda")
    with pytest.raises(ConfigError, match="settings are fixed"):
        Encoder.load(written(), small_config())


def test_features_with_nan_are_refused(written, pictures):
    encoder = Encoder.load(written(), device="cpu")
    encoder.embedder.run = lambda inputs: np.full((len(inputs["images"]), encoder.embedder.dim), np.nan)
    with pytest.raises(EvaluationError, match="NaN"):
        encoder.encode(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["person/vit_svllreid.yml", "person/vit_clipreid.yml", "person/rn50_clipreid.yml"])
def test_published_backbones(name, kind, tmp_path):
    """ViT-B/16 with stride 12 and with stride 16, and RN50, at their published size."""
    embedder = network({}, name)
    [made] = export_model(embedder, SideRows.counted(2, 1), tmp_path / f"m{FORMATS[kind].suffix}", kind=kind)
    assert made.agreement.minimum > 0.9999 and made.agreement.images == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["person/vit_svllreid.yml", "person/rn50_clipreid.yml", "person/tiny_svllreid.yml"])
def test_static_int8_of_openvino(name, tmp_path):
    embedder = network({}, name)
    size = embedder.spec.image_size
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (16, 3, *size), dtype=np.uint8))
    plain, int8 = export_model(
        embedder, SideRows.counted(2, 1), tmp_path / "m.xml", kind="openvino", int8=True, real=noise, calibration=noise
    )
    assert int8.agreement.mean > 0.99 and int8.size < 0.4 * plain.size
    assert Encoder.load(tmp_path / "m.xml").spec == replace(embedder.spec, precision="int8")


FREED_ELSEWHERE = """
import gc, os, signal, sys, threading
from svllreid import Encoder
encoders = [Encoder.load(sys.argv[1], device="cpu")]
signal.signal(signal.SIGINT, lambda number, frame: print("interrupted"))
def free():
    encoders.clear()
    gc.collect()
thread = threading.Thread(target=free)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.slow
def test_a_signal_arrives_after_a_model_was_freed_in_another_thread(written):
    command = [sys.executable, "-c", FREED_ELSEWHERE, written("openvino")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "interrupted\n"), finished.stderr
