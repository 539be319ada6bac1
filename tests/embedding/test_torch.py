"""What the record of an embedder depends on, and what it does not."""

import json

import pytest
import torch

from svllreid import Encoder, build_model
from svllreid.build import build_embedder, build_fabric
from svllreid.embedding.torch import TorchEmbedder
from svllreid.models.digest import weights_digest


@pytest.fixture
def fields(small_config):
    """The record of a model's features under a configuration; weights can be changed before."""

    def make(overrides=None, change=None, **sizes):
        config = small_config({"MODEL.USE_TEXT": False, **(overrides or {})})
        model = build_model(config, **{"num_classes": 2, "num_cameras": 2, **sizes}, clip="random")
        if change is not None:
            with torch.no_grad():
                change(model)
        return build_embedder(config, model, build_fabric(config, "cpu")).spec.to_dict()

    return make


def test_the_settings_of_a_configuration(fields):
    found = fields({"TEST.NECK_FEAT": "after", "TEST.FLIP": True, "TEST.FEAT_NORM": "no", "MODEL.SIE_COE": 3.0})
    settings = {name: found[name] for name in ("neck", "flip", "normalized", "sie_camera", "sie_view", "sie_coe")}
    assert list(settings.values()) == ["after", True, False, True, False, 3.0]
    assert (found["image_size"], found["dim"], found["precision"], found["metric"]) == (
        [32, 16],
        384,
        "32",
        "euclidean",
    )
    mixed = fields({"SOLVER.PRECISION": "bf16-mixed"})
    assert (mixed["precision"], mixed["fingerprint"]) == ("bf16-mixed", fields()["fingerprint"])
    assert fields({"SOLVER.PRECISION": "tf32"})["precision"] == "32"  # a CPU has no tf32


def test_weights_that_a_feature_does_not_depend_on(fields):
    def count(model):
        model.bottleneck.num_batches_tracked += 7
        model.classifier.weight += 1

    assert fields(change=count) == fields()
    assert fields(num_classes=5)["weights"] == fields()["weights"]
    assert fields({"MODEL.USE_TEXT": True, "MODEL.USE_SSL": True})["weights"] == fields()["weights"]
    assert fields({"TEST.IMS_PER_BATCH": 3}) == fields()


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (lambda model: model.image_encoder.proj, "weights"),
        (lambda model: model.bottleneck.running_var, "weights"),
        (lambda model: model.bottleneck_proj.weight, "weights"),
        (lambda model: model.cv_embed, "sie_table"),
    ],
)
def test_one_number_is_enough(fields, part, field):
    found = fields(change=lambda model: part(model).view(-1)[-1:].mul_(1 + 1e-6))
    assert [name for name, value in fields().items() if found[name] != value] == ["fingerprint", field]


def test_what_shapes_do_not_tell(small_config, fields):
    model = build_model(small_config({"MODEL.USE_TEXT": False}), num_classes=2, clip="random")
    plain = weights_digest(model.image_encoder)
    model.image_encoder.conv1.stride = (15, 16)
    assert weights_digest(model.image_encoder) != plain
    model.image_encoder.conv1.stride = (16, 16)
    model.image_encoder.transformer.resblocks[0].attn.num_heads *= 2
    assert weights_digest(model.image_encoder) != plain
    assert weights_digest(model, ("image_encoder.",)) != weights_digest(model, ("bottleneck.",))
    config = small_config({"MODEL.USE_TEXT": False})
    gelus = [
        build_model(config, num_classes=2, clip="random", quick_gelu=quick).image_encoder for quick in (True, False)
    ]
    assert weights_digest(gelus[0]) != weights_digest(gelus[1])


def test_side_information_that_is_off_leaves_no_trace(fields):
    off = fields({"MODEL.SIE_CAMERA": False, "MODEL.SIE_COE": 3.0})
    assert (off["sie_camera"], off["sie_coe"], off["sie_table"]) == (False, 0.0, "")
    assert off == fields({"MODEL.SIE_CAMERA": False}, num_cameras=7)
    assert off["weights"] == fields()["weights"]


def test_a_checkpoint_has_the_record_of_the_model_that_was_saved(checkpoint, make_checkpoint, tmp_path, small_config):
    encoder = Encoder.load(checkpoint, device="cpu")
    assert Encoder.load(make_checkpoint(tmp_path / "again.pth"), device="cpu").spec == encoder.spec
    assert Encoder.load(make_checkpoint(tmp_path / "other.pth", seed=1), device="cpu").spec != encoder.spec
    info = json.loads(checkpoint.with_suffix(".json").read_text())
    assert encoder.spec.image_size == tuple(info["config"]["INPUT"]["SIZE_TEST"])


def test_switched_off_and_never_loaded_are_the_same_features(checkpoint, small_config):
    """Side information is switched off on a foreign dataset with the table in the model, or by the configuration."""
    without = Encoder.load(checkpoint, small_config({"MODEL.SIE_CAMERA": False, "MODEL.USE_TEXT": False}), "cpu")
    loaded = Encoder.load(checkpoint, device="cpu")
    off = TorchEmbedder(loaded.embedder.model, loaded.embedder.transform, loaded.device, side_information=False)
    assert off.spec == without.spec != loaded.spec
    images, ids = torch.rand(2, 3, 32, 16), torch.zeros(2, dtype=torch.int64)
    with torch.inference_mode():
        torch.testing.assert_close(off(images, ids, ids), without.embedder(images, ids, ids), rtol=0, atol=1e-6)
        assert not torch.allclose(off(images, ids, ids), loaded.embedder(images, ids, ids), atol=1e-3)


@pytest.mark.parametrize("precision", ["tf32", "bf16-mixed"])
def test_the_arithmetic_outside_stays_as_it_was(checkpoint, precision):
    encoder = Encoder.load(checkpoint, device="cpu")
    before = torch.get_float32_matmul_precision()
    seen = []
    encoder.embedder.model.embed = lambda *args, **options: seen.append(
        (torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu"))
    )
    TorchEmbedder(encoder.embedder.model, encoder.embedder.transform, encoder.device, precision=precision)(
        *torch.zeros(3, 1)
    )
    assert seen == [("high" if precision == "tf32" else "highest", precision == "bf16-mixed")]
    assert torch.get_float32_matmul_precision() == before and not torch.is_autocast_enabled("cpu")
