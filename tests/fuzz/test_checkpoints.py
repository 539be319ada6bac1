"""Checkpoints, weights to start from, states to continue from, and saved features, damaged or made by somebody else."""

import io
import json
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from damage import damaged, odd_json
from rich.console import Console
from safetensors.torch import save as to_safetensors

import svllreid
from svllreid.evaluation.features import FeatureSet
from svllreid.jobs.testing import run_features
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.models.clip import load_clip
from svllreid.models.weight_file import read_state
from svllreid.training.state import StateFile, TrainingProgress, read_progress
from svllreid.types import Sample

STATE = {"image_encoder.conv1.weight": torch.arange(12.0).view(3, 4), "classifier.weight": torch.ones(2)}
IMAGE = np.zeros((32, 16, 3), np.uint8)
MEMORY = 400 << 20


def sizes(few, many):
    return pytest.mark.parametrize("count", [pytest.param(few, id="few"), pytest.param(many, marks=pytest.mark.slow)])


def torch_bytes(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def bombs():
    """Small files of weights that unfold to gigabytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a/data.pkl", b"x")
        with archive.open("a/data/0", "w") as entry:
            for _ in range(600):
                entry.write(bytes(1 << 20))
    yield "compressed zeros", stream.getvalue()
    yield "one number in every place", torch_bytes({"image_encoder.a": torch.zeros(1).expand(1 << 40)})
    yield "one half number in every place", torch_bytes({"image_encoder.a": torch.zeros(1).half().expand(1 << 36)})
    yield (
        "a sparse tensor",
        torch_bytes({"image_encoder.a": torch.zeros(1).to_sparse().sparse_resize_((1 << 40,), 1, 0)}),
    )
    yield "no data", torch_bytes({"image_encoder.a": torch.empty(1 << 40, device="meta")})
    head = json.dumps({"image_encoder.a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    yield "safetensors that says so", len(head).to_bytes(8, "little") + head
    yield "a long header", (1 << 31).to_bytes(8, "little") + b"{"


WHOLE = [
    torch_bytes(STATE),
    torch_bytes(STATE, _use_new_zipfile_serialization=False),
    torch_bytes(OrderedDict(STATE)),
    torch_bytes({"state_dict": STATE, "epoch": 3, "args": [1, {"a": (2, None)}]}),
    to_safetensors(STATE),
]


@sizes(40, 3000)
def test_weight_files(count, campaign, tmp_path):
    path = tmp_path / "weights.pth"
    with campaign("damaged weight files", tmp_path, memory=MEMORY) as run:
        for number in range(count):
            draw = random.Random(f"weights {number}")
            path.write_bytes(damaged(draw, draw.choice(WHOLE), WHOLE))
            with run.attempt(f"weights {number}"):
                assert any(isinstance(value, torch.Tensor) for value in read_state(path).values())
        for name, content in bombs() if count > 40 else ():
            path.write_bytes(content)
            with run.attempt(name):
                read_state(path)
                pytest.fail("it was read")


@pytest.fixture
def config(smallest):
    """Of the smallest model, with side information."""
    return svllreid.load_config(
        overrides={
            "MODEL.NAME": "tiny", "MODEL.PRETRAINED": "random", "MODEL.SIE_CAMERA": True, "MODEL.SSL_HIDDEN_DIM": 8,
            "MODEL.SSL_OUT_DIM": 4, "INPUT.SIZE_TRAIN": [32, 16], "INPUT.SIZE_TEST": [32, 16],
        }
    )  # fmt: skip


@pytest.fixture
def checkpoint(config, tmp_path):
    """A checkpoint with its .json: the state dict and what the .json holds."""
    model = svllreid.build_model(config, num_classes=4, num_cameras=2)
    info = CheckpointInfo(config.to_yaml_tree(), 4, 2, 1, [1, 2, 3, "anna"], 2, 2, svllreid.__version__)
    save_checkpoint(tmp_path / "model.pth", model, info)
    return torch.load(tmp_path / "model.pth"), json.loads((tmp_path / "model.json").read_text())


def odd_tensor(draw, value):
    """A tensor that differs from the one that belongs there."""
    return draw.choice(
        (
            lambda: value.to(draw.choice((torch.int8, torch.int64, torch.bool, torch.float16, torch.bfloat16))),
            lambda: value.to(draw.choice((torch.float64, torch.complex64))),
            lambda: torch.full_like(value, draw.choice((float("nan"), float("inf"), 1e38, 0)), dtype=torch.float32),
            lambda: value.flatten(),
            lambda: value[None],
            lambda: value[:0] if value.dim() else value[None][:0],
            lambda: value[:1] if value.dim() else value,
            lambda: torch.cat([value, value]) if value.dim() else value,
            lambda: value.T if value.dim() == 2 else value[..., None],
            lambda: torch.zeros(1).expand(draw.choice((0, 7, 1 << 40))),
            lambda: torch.tensor(1.0),
            lambda: torch.empty(value.shape, device="meta"),
            lambda: value.to_sparse() if value.dim() else value,
            lambda: torch.nn.Parameter(value.float()),
            lambda: draw.choice((None, 1, "a", [1], {"a": value}, b"x", torch.float32, torch.Size([1]))),
        )
    )()


def odd_state(draw, state):
    """A state dict with some entries missing, too many, renamed, or of other values, types or shapes."""
    state = dict(state)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        kind, name = draw.random(), draw.choice(sorted(state, key=str))
        if kind < 0.6:
            state[name] = odd_tensor(draw, state[name]) if isinstance(state[name], torch.Tensor) else None
        elif kind < 0.7:
            del state[name]
        elif kind < 0.8:
            state[draw.choice(("extra", "image_encoder.extra", "cv_embed", "", 1, None, "ä", "visual.proj"))] = state[
                name
            ]
        elif kind < 0.9:
            state[str(name).replace(".", draw.choice(("_", "..", "")))] = state.pop(name)
        else:
            prefix = draw.choice(("module.", "_orig_mod.", "model.net.", "x.", "image_encoder."))
            state = {f"{prefix}{key}": value for key, value in state.items()}
    return draw.choice((lambda: state, lambda: state, lambda: {"model": state}, lambda: list(state.items())))()


def check_encoder(path):
    """What loads turns images into numbers."""
    features = svllreid.Encoder.load(path, device="cpu").encode([IMAGE, IMAGE], camids=[-1, 0])
    assert features.shape[0] == 2 and np.isfinite(features).all()


@pytest.mark.slow
def test_checkpoints(campaign, checkpoint, tmp_path):
    state, _ = checkpoint
    path = tmp_path / "model.pth"
    with campaign("checkpoints with other entries", tmp_path, memory=MEMORY) as run:
        for number in range(500):
            draw = random.Random(f"checkpoint {number}")
            path.write_bytes(torch_bytes(odd_state(draw, state)))
            with run.attempt(f"checkpoint {number}"):
                check_encoder(path)
    assert run.outcomes["accepted"] > 20


@pytest.mark.slow
def test_records_beside_checkpoints(campaign, checkpoint, tmp_path):
    _, content = checkpoint
    path = tmp_path / "model.json"
    whole = json.dumps(content).encode()
    with campaign("records beside checkpoints", tmp_path, memory=MEMORY) as run:
        for number in range(800):
            draw = random.Random(f"record {number}")
            path.write_bytes(
                damaged(draw, whole, [whole, b"{}"])
                if number % 4 == 0
                else json.dumps(odd_json(draw, content)).encode()
            )
            with run.attempt(f"record {number}"):
                check_encoder(tmp_path / "model.pth")
    assert run.outcomes["accepted"] > 80


@pytest.mark.slow
def test_weights_to_start_from(campaign, config, tmp_path):
    state = {name: value.detach() for name, value in load_clip("tiny", "random").text.state_dict().items()}
    files = {name: tmp_path / name for name in ("clip.pt", "clip.json", "config.json", "open_clip_config.json")}
    with campaign("weights in MODEL.PRETRAINED", tmp_path, memory=MEMORY) as run:
        for number in range(300):
            draw = random.Random(f"start {number}")
            files["clip.pt"].write_bytes(torch_bytes(odd_state(draw, state)))
            for name in ("clip.json", "config.json", "open_clip_config.json"):
                content = odd_json(draw, {"quick_gelu": True, "model_cfg": {"quick_gelu": 1}, "model_type": "clip"})
                files[name].write_bytes(
                    damaged(draw, json.dumps(content).encode(), [b"{"]) if draw.random() < 0.2 else b"{}"
                )
            with run.attempt(f"start {number}"):
                model = config.model.model_copy(update={"pretrained": str(files["clip.pt"])})
                built = svllreid.build_model(config.model_copy(update={"model": model}), num_classes=2)
                assert not any(torch.isnan(value).any() for value in built.state_dict().values())
    assert run.outcomes["accepted"] > 20


@sizes(30, 1500)
def test_states(count, campaign, tmp_path):
    file = StateFile(tmp_path / "stage1.pt", [1, 2], "abc")
    file.save(
        TrainingProgress(1, 2, 3), {"weights": {"a": torch.ones(3)}, "optimizer": {"state": {}, "param_groups": []}}
    )
    file.settle(TrainingProgress(1, 2, 3, best_epoch=1, best={"mAP": 0.5}))
    state, note = file.path.read_bytes(), file.settled_path.read_bytes()
    content = {"epoch": 1, "step": 2, "total": 3, "pids": [1, 2], "prompts": "abc", "weights": {"a": torch.ones(3)}}
    with campaign("states to continue from", tmp_path, memory=MEMORY) as run:
        for number in range(count):
            draw = random.Random(f"state {number}")
            kind = number % 4
            file.path.write_bytes(damaged(draw, state, [state, note]) if kind == 0 else state)
            file.settled_path.write_bytes(damaged(draw, note, [state, note]) if kind == 1 else note)
            if kind == 2:
                file.settled_path.write_text(json.dumps(odd_json(draw, json.loads(note))))
            elif kind == 3:
                changed = {key: value for key, value in content.items() if draw.random() < 0.95}
                odd = draw.choice((None, "1", 1.5, -1, 10**30, [1], {}, torch.ones(2), float("nan"), True))
                file.path.write_bytes(torch_bytes({**changed, draw.choice(sorted(content)): odd}))
            with run.attempt(f"state {number}"):
                for progress in (read_progress(file.path), file.load()[0]):
                    counts = (progress.epoch, progress.step, progress.total, progress.settled, progress.best_epoch)
                    assert all(isinstance(value, int) and value >= 0 for value in counts)
                    assert isinstance(progress.best, dict)
    assert run.outcomes["accepted"] > count // 20


def features():
    """Features of six queries and six gallery images, as they are saved."""
    draw = np.random.default_rng(0)
    values = {"q_feats": draw.standard_normal((6, 4), np.float32), "g_feats": draw.standard_normal((6, 4), np.float32)}
    for side in "qg":
        values |= {
            f"{side}_pids": np.arange(6) % 3,
            f"{side}_camids": np.full(6, "qg".index(side)),
            f"{side}_viewids": np.full(6, -1),
            f"{side}_paths": np.array([f"{side}{row}.jpg" for row in range(6)]),
        }
    return values | {"name": np.array("mine"), "protocol": np.array("cross-camera"), "notes": np.array(["a"])}


def odd_array(draw, value):
    """An array that differs from the one that belongs there."""
    return draw.choice(
        (
            lambda: value[:-1] if value.ndim else value,
            lambda: value[:0] if value.ndim else value,
            lambda: value[None],
            lambda: value.astype(
                draw.choice(("f2", "f8", "i1", "u8", "c8", "U9", "S9", "?", "M8[s]", "m8[s]")), casting="unsafe"
            ),
            lambda: np.full(value.shape, draw.choice((np.nan, np.inf, -np.inf, 1e300, -1.0, 0.0, 2**63, 1e-300))),
            lambda: np.full(value.shape, draw.choice((-1, -2, 2**62, 2**31, 7)), np.int64),
            lambda: np.full(
                value.shape, draw.choice(("", "x" * 1000, "../../a", "人", "\0", "vehicleid-10", "leave-self-out"))
            ),
            lambda: np.zeros(value.shape, [("a", "f4")]),
            lambda: np.array(draw.choice((1, 1.5, "a", b"a", True))),
            lambda: np.asfortranarray(value),
            lambda: np.zeros((6, 0), np.float32),
            lambda: np.zeros((6, 4, 1), np.float32),
        )
    )()


def features_bytes(draw):
    """An archive of features with some arrays odd, missing or too many."""
    arrays = features()
    for _ in range(draw.choice((1, 1, 2, 3))):
        name = draw.choice(sorted(arrays))
        kind = draw.random()
        if kind < 0.15:
            del arrays[name]
        elif kind < 0.3:
            arrays[draw.choice(("part_a", "q_pictures", "g_pictures", "embedding", "extra", "../x", "part_/"))] = (
                arrays[name]
            )
        else:
            try:
                arrays[name] = odd_array(draw, arrays[name])
            except (TypeError, ValueError, OverflowError):  # NumPy has no such conversion
                continue
    stream = io.BytesIO()
    draw.choice((np.savez, np.savez_compressed))(stream, **arrays)
    return stream.getvalue()


def npz(content, shape="(6, 4)"):
    """An archive of features of which one array is said to have another shape, its content compressed."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **features())
    with zipfile.ZipFile(stream) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    entries["q_feats.npy"] = entries["q_feats.npy"].replace(b"(6, 4)", shape.encode())[:128] + content
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@sizes(30, 1500)
def test_saved_features(count, campaign, tmp_path):
    path = tmp_path / "in" / "features.npz"
    path.parent.mkdir()
    whole = features_bytes(random.Random(2))
    config = svllreid.load_config(overrides={"OUTPUT_DIR": str(tmp_path / "out")})
    with campaign("saved features", path.parent, memory=MEMORY) as run:
        for number in range(count):
            draw = random.Random(f"features {number}")
            content = features_bytes(draw)
            if number % 3 == 0:
                content = damaged(draw, whole, [whole, content, b"PK\x03\x04"])
            path.write_bytes(content)
            with run.attempt(f"features {number}"):
                loaded = FeatureSet.load(path)
                assert all(isinstance(sample, Sample) for sample in (*loaded.query, *loaded.gallery))
                if number % 10 == 0:
                    metrics = run_features(path, config, Console(quiet=True))
                    assert 0 <= metrics["mAP"] <= 1
        for shape, size in (("(999999999, 9999)", 0), ("(4194304, 32)", 1 << 29)) if count > 30 else ():
            path.write_bytes(npz(bytes(size), shape))
            with run.attempt(f"an array of {shape}"):
                FeatureSet.load(path)
                pytest.fail("it was read")
    assert run.outcomes["accepted"] > count // 10
