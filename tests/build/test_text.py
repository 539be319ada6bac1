"""Words as queries for the features of a trained model."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from svllreid.build import Encoder, TextEncoder, build_model
from svllreid.build.text import _readout
from svllreid.config import load_config
from svllreid.errors import CheckpointError, ConfigError
from svllreid.models.checkpoint import CheckpointInfo, read_checkpoint, save_checkpoint
from svllreid.models.clip import load_clip
from svllreid.models.pretrained import SHIPPED
from svllreid.rendered.attributes import draw_person
from svllreid.rendered.camera import make_camera
from svllreid.rendered.description import describe_person
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.scoring import embed_images, embed_texts
from svllreid.rendered.shot import draw_image

CONFIG = "person/tiny_svllreid.yml"
TEXTS = ["a person in a red jacket", "a woman in a white shirt and black trousers"]
SHIPPED_FILE = str(SHIPPED["tiny"]["rendered-people"])


def save(path, settings=(), *, with_info=True):
    """A checkpoint of two people before training, and its network."""
    config = load_config(CONFIG, dict(settings))
    model = build_model(config, num_classes=2, num_cameras=2)
    save_checkpoint(path, model, CheckpointInfo(config.to_yaml_tree(), 2, 2, 1, ["a", "b"], 2, 7, "0"))
    if not with_info:
        path.with_suffix(".json").unlink()
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "run.pth"
    model = save(path)
    with torch.no_grad():  # as if it had been trained
        model.image_encoder.proj.add_(0.1 * torch.randn(model.image_encoder.proj.shape))
        for neck in (model.bottleneck, model.bottleneck_proj):
            neck.weight.uniform_(0.5, 2)
            neck.running_mean.normal_()
            neck.running_var.uniform_(0.5, 2)
    save_checkpoint(path, model, read_checkpoint(path)[1])
    return path


@pytest.fixture(scope="module")
def pair():
    return ImageTextPair(load_clip("tiny", "rendered-people"), (96, 48)).eval()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (96, 48, 3), np.uint8) for _ in range(5)]


def test_texts_and_images_before_training_are_those_of_the_pretrained_pair(saved, pair, images):
    words = TextEncoder.load(saved, device="cpu")
    np.testing.assert_allclose(words.encode(TEXTS), F.normalize(embed_texts(pair, TEXTS)).numpy(), atol=1e-6)
    joint, _ = embed_images(pair, torch.from_numpy(np.stack(images)))
    encoder = words.pretrained_encoder()
    np.testing.assert_allclose(encoder.encode(images), F.normalize(joint).numpy(), atol=1e-5)
    assert (encoder.spec.neck, encoder.spec.dim, encoder.spec.normalized) == ("joint", 128, True)
    assert words.encode("a man").shape == (1, 128) and words.queries("a man").shape == (1, 384)
    assert words.encode([]).shape == (0, 128) and words.queries([]).shape == (0, 384)


def test_queries_compare_final_through_the_projection_of_before_training(saved, pair, images):
    words, encoder = TextEncoder.load(saved, device="cpu"), Encoder.load(saved, device="cpu")
    assert words.spec == encoder.spec
    queries, stored = words.queries(TEXTS), encoder.encode(images, 0)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    joint = stored[:, :256] @ pair.image_encoder.proj.detach().numpy()  # (5, 128)
    expected = words.encode(TEXTS) @ joint.T
    ratio = (queries @ stored.T) / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-3)
    assert (ratio > 0).all()


def test_queries_undo_the_slopes_of_the_necks(saved, images):
    after = load_config(CONFIG, {"TEST.NECK_FEAT": "after"})
    words, words_after = TextEncoder.load(saved, device="cpu"), TextEncoder.load(saved, after, "cpu")
    bottleneck = read_checkpoint(saved)[0]
    slope = bottleneck["bottleneck.weight"] / (bottleneck["bottleneck.running_var"] + 1e-5).sqrt()
    expected = F.normalize(torch.from_numpy(words.queries(TEXTS))[:, :256] / slope).numpy()
    np.testing.assert_allclose(words_after.queries(TEXTS)[:, :256], expected, atol=1e-5)
    assert not words_after.queries(TEXTS)[:, 256:].any()
    assert words_after.spec == Encoder.load(saved, after, "cpu").spec


def test_descriptions_find_the_people_whom_they_describe(tmp_path):
    save(tmp_path / "run.pth")
    camera, pids = make_camera(0, 0, (96, 48)), range(1, 21)
    people = [np.asarray(draw_image(0, pid, camera, 0, (96, 48))) for pid in pids]
    words = TextEncoder.load(tmp_path / "run.pth", device="cpu")
    queries = words.queries([describe_person(draw_person(0, pid)) for pid in pids])
    stored = Encoder.load(tmp_path / "run.pth", device="cpu").encode(people)
    assert ((queries @ stored.T).argmax(axis=1) == np.arange(20)).mean() > 0.5, "chance is 0.05"


def test_the_examples_of_the_documentation(tmp_path, monkeypatch, images):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "outputs" / "people" / "tiny_10.pth")
    for name, image in zip(("a.jpg", "b.jpg"), images, strict=False):
        Image.fromarray(image).save(name)
    names = {}
    text = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/text.md", "exec"), names)
    assert sorted(names["order"]) == sorted(names["nearest"]) == [0, 1]


def test_features_that_are_not_normalised_are_refused(saved):
    words = TextEncoder.load(saved, load_config(CONFIG, {"TEST.FEAT_NORM": "no"}), "cpu")
    assert words.encode(TEXTS).shape == (2, 128)
    with pytest.raises(ConfigError, match=r"not normalised .* TEST\.FEAT_NORM yes"):
        words.queries(TEXTS)


def test_a_resnet_compares_its_trained_joint_feature():
    encoder = SimpleNamespace(final_dim=2048, proj_dim=1024)  # no matrix leads from the one to the other
    readout = _readout(SimpleNamespace(image_encoder=encoder), load_clip("RN50", "random"), after_neck=False)
    assert not readout[:2048].any() and torch.equal(readout[2048:], torch.eye(1024))


def test_other_weights_of_clip_are_refused(saved, tmp_path):
    other = tmp_path / "other.pth"
    torch.manual_seed(3)
    torch.save(ImageTextPair(load_clip("tiny", "random"), (96, 48)).openai_state(), other)
    with pytest.raises(CheckpointError, match=r"run\.pth was not trained with the text tower of .*other\.pth"):
        TextEncoder.load(saved, device="cpu", clip=str(other))
    assert TextEncoder.load(saved, device="cpu", clip=SHIPPED_FILE).encode(TEXTS).shape == (2, 128)


def test_weights_of_clip_that_are_gone_are_asked_for(saved, tmp_path):
    info = read_checkpoint(saved)[1]
    tree = {**info.config, "MODEL": {**info.config["MODEL"], "PRETRAINED": "gone.pt"}}
    model = build_model(load_config(CONFIG), num_classes=2, num_cameras=2)
    save_checkpoint(tmp_path / "run.pth", model, replace(info, config=tree))
    with pytest.raises(
        CheckpointError, match=r"'gone\.pt' are neither .*; words need the weights .*run\.pth began with"
    ):
        TextEncoder.load(tmp_path / "run.pth", device="cpu")


def test_random_weights_know_no_words(tmp_path):
    save(tmp_path / "run.pth", {"MODEL.PRETRAINED": "random"})
    with pytest.raises(CheckpointError, match="random weights, whose text tower knows no words"):
        TextEncoder.load(tmp_path / "run.pth", device="cpu")


def test_an_exported_model_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"tiny\.onnx is an exported model, which reads no words; name the checkp"
    ):
        TextEncoder.load(tmp_path / "tiny.onnx")


def test_a_model_trained_from_another_leads_back_to_clip(saved, tmp_path):
    save(tmp_path / "second.pth", {"MODEL.PRETRAINED": str(saved)})
    first, second = (TextEncoder.load(path, device="cpu") for path in (saved, tmp_path / "second.pth"))
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))
    info = read_checkpoint(saved)[1]
    lone = tmp_path / "lone.pth"
    save_checkpoint(lone, build_model(load_config(CONFIG), num_classes=2, num_cameras=2), info)
    lone.with_suffix(".json").unlink()
    save(tmp_path / "third.pth", {"MODEL.PRETRAINED": str(lone)})
    with pytest.raises(CheckpointError, match=r"third\.pth was trained from .*lone\.pth, a ReID model without \.json"):
        TextEncoder.load(tmp_path / "third.pth", device="cpu")
    assert TextEncoder.load(tmp_path / "third.pth", device="cpu", clip="rendered-people").encode(TEXTS).shape == (
        2,
        128,
    )


def test_a_model_that_began_with_itself_is_no_endless_search(saved, tmp_path):
    info = read_checkpoint(saved)[1]
    tree = {**info.config, "MODEL": {**info.config["MODEL"], "PRETRAINED": str(tmp_path / "loop.pth")}}
    model = build_model(load_config(CONFIG), num_classes=2, num_cameras=2)
    save_checkpoint(tmp_path / "loop.pth", model, replace(info, config=tree))
    with pytest.raises(CheckpointError, match="name CLIP's weights"):
        TextEncoder.load(tmp_path / "loop.pth", device="cpu")


def test_a_baseline_without_text_tower_takes_that_of_a_tag_and_says_so(tmp_path, caplog):
    save(tmp_path / "base.pth", {"MODEL.USE_TEXT": False})
    with caplog.at_level(logging.INFO):
        words = TextEncoder.load(tmp_path / "base.pth", device="cpu")
    assert words.queries(TEXTS).shape == (2, 384)
    assert "base.pth keeps no text tower (a one-stage baseline); that of rendered-people is used" in caplog.text


def test_a_baseline_that_began_with_a_file_needs_that_file_named(tmp_path):
    save(tmp_path / "base.pth", {"MODEL.USE_TEXT": False, "MODEL.PRETRAINED": SHIPPED_FILE})
    with pytest.raises(CheckpointError, match=r"base\.pth keeps no text tower .* may have been changed since"):
        TextEncoder.load(tmp_path / "base.pth", device="cpu")
    assert TextEncoder.load(tmp_path / "base.pth", device="cpu", clip=SHIPPED_FILE).queries(TEXTS).shape == (2, 384)
