"""Tasks: what they train, which loss carries gradient where, and that shortcuts change nothing."""

import pytest
import torch

from svllreid import build_model
from svllreid.build import build_stage1, build_stage2
from svllreid.losses.supcon import supcon_loss
from svllreid.models.self_supervision import SELF_SUPERVISION
from svllreid.types import Batch

LABELS = torch.tensor([0, 0, 2, 2, 3, 3, 1, 1])


def batch_of(augmented=True, seed=0):
    images = torch.randn(3, 8, 3, 32, 16, generator=torch.Generator().manual_seed(seed))
    camids = torch.arange(8) % 2
    unknown = torch.full((8,), -1)
    return Batch(images[0], LABELS, camids, unknown, *(images[1:] if augmented else ()))


def model_of(config):
    return build_model(config, num_classes=4, num_cameras=2).train()


def gradients(loss, parameters):
    parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {name for name, grad in zip(parameters, found, strict=True) if grad is not None and grad.abs().sum() > 0}


@pytest.mark.parametrize("ssl_type", ["SIMCLR", "SIMSIAM"])
def test_every_stage2_loss_carries_gradient(small_config, ssl_type, monkeypatch):
    task = build_stage2(
        small_config({"MODEL.SSL_TYPE": ssl_type}), model_of(small_config({"MODEL.SSL_TYPE": ssl_type}))
    )
    import svllreid.training.stage2 as stage2

    losses = {}
    assert task.model.ssl_loss is SELF_SUPERVISION[ssl_type].loss
    for holder, name in ((stage2, "identity_loss"), (stage2, "triplet_loss"), (task.model, "ssl_loss")):
        original = getattr(holder, name)
        monkeypatch.setattr(
            holder,
            name,
            lambda *a, original=original, name=name: (
                losses.setdefault(name, []).append(original(*a)) or losses[name][-1]
            ),
        )
    result = task(batch_of())
    assert set(result.terms) == {"loss_id", "loss_triplet", "loss_i2t", "loss_ssl"}
    counts = {name: len(found) for name, found in losses.items()}
    assert counts == {"identity_loss": 3, "triplet_loss": 3, "ssl_loss": 1}
    early = {"conv1": task.model.image_encoder.conv1.weight}
    for loss in (*losses["identity_loss"], *losses["triplet_loss"], *losses["ssl_loss"]):
        assert gradients(loss, early) == {"conv1"}
    table = {"cv_embed": task.model.cv_embed}
    assert gradients(losses["triplet_loss"][0], table) == {"cv_embed"}
    assert gradients(losses["ssl_loss"][0], table) == set(), "the self-supervision views get no side information"
    assert any("image_mlp" in name for name in gradients(losses["ssl_loss"][0], task.trained))


def test_stage2_trains_what_it_should(small_config):
    config = small_config()
    task = build_stage2(config, model_of(config))
    task(batch_of()).loss.backward()
    with_gradient = {name for name, p in task.model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name in task.trained if not name.startswith("text_mlp.")}
    assert not any(name.startswith(("prompt_learner.", "text_encoder.")) for name in task.trained)
    assert "bottleneck.bias" not in task.trained and "bottleneck.weight" in task.trained


@pytest.mark.parametrize("method", ["mask", "swap", "mix"])
def test_stage1_trains_the_prompts_alone(small_config, method):
    config = small_config({"SOLVER.STAGE1.PROMPT_AUG_METHOD": method})
    task = build_stage1(config, model_of(config))
    features = torch.randn(8, 128)
    result = task(features, LABELS, torch.Generator().manual_seed(0))
    result.loss.backward()
    assert {name for name, p in task.model.named_parameters() if p.grad is not None} == {"prompt_learner.cls_ctx"}
    assert set(result.terms) == {"loss_i2t", "loss_t2i", "loss_ssl"}
    own = {"cls_ctx": task.model.prompt_learner.cls_ctx}
    for weight in (0.0, 1.0):  # the self-supervised loss alone reaches the prompts too
        task.ssl_weight = weight
        torch.manual_seed(0)
        loss = task(features * 0, LABELS, torch.Generator().manual_seed(0)).loss
        assert (gradients(loss, own) == {"cls_ctx"}) == (weight > 0)


def test_stage1_head_is_trained_only_on_request(small_config):
    fixed, trained = small_config(), small_config({"SOLVER.STAGE1.TRAIN_SSL_HEAD": True})
    assert set(build_stage1(fixed, model_of(fixed)).trained) == {"prompt_learner.cls_ctx"}
    assert any(name.startswith("text_mlp.") for name in build_stage1(trained, model_of(trained)).trained)


def test_text_is_encoded_once_for_each_identity(small_config):
    config = small_config({"MODEL.USE_SSL_STAGE1": False})
    model = model_of(config)
    task = build_stage1(config, model)
    lengths = []
    model.text_encoder.register_forward_hook(lambda module, args, output: lengths.append((len(args[0]), args[1])))
    features = torch.randn(8, 128)
    result = task(features, LABELS, torch.Generator())
    assert lengths == [(4, 12)]
    each = model.encode_prompts(model.prompt_learner(LABELS))
    torch.testing.assert_close(result.terms["loss_i2t"], supcon_loss(features, each, LABELS, LABELS).detach())
    with_views = build_stage1(small_config(), model_of(small_config()))
    with_views.model.text_encoder.register_forward_hook(
        lambda module, args, output: lengths.append((len(args[0]), args[1]))
    )
    with_views(features, LABELS, torch.Generator())
    assert lengths[-1] == (12, 12), "plain prompts and both views in one pass"


def test_one_identity_has_nothing_to_contrast(small_config):
    config = small_config()
    task = build_stage1(config, model_of(config))
    result = task(torch.randn(3, 128), torch.tensor([2, 2, 2]), torch.Generator())
    assert result.terms["loss_ssl"].item() == 0
    result.loss.backward()
    assert torch.isfinite(task.model.prompt_learner.cls_ctx.grad).all()


def test_switches_leave_their_loss_out(small_config):
    off = small_config({"MODEL.USE_SSL": False, "MODEL.USE_SSL_STAGE1": False})
    model = model_of(off)
    assert not hasattr(model, "image_mlp") and not hasattr(model, "text_mlp")
    assert set(build_stage1(off, model)(torch.randn(8, 128), LABELS, torch.Generator()).terms) == {
        "loss_i2t",
        "loss_t2i",
    }
    assert set(build_stage2(off, model)(batch_of(augmented=False)).terms) == {"loss_id", "loss_triplet", "loss_i2t"}
    base = small_config({"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False})
    model = model_of(base)
    assert not hasattr(model, "text_encoder")
    assert set(build_stage2(base, model)(batch_of(augmented=False)).terms) == {"loss_id", "loss_triplet"}


def test_one_pass_for_three_views_equals_three(small_config):
    config = small_config()
    model = model_of(config).eval()
    batch = batch_of()
    with torch.no_grad():
        together, finals = model.encode_augmented(
            batch.images, (batch.augmented1, batch.augmented2), batch.camids, batch.viewids
        )
        apart = model.encode_image(batch.images, batch.camids, batch.viewids)
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
        for final, view in zip(finals, (batch.augmented1, batch.augmented2), strict=True):
            torch.testing.assert_close(final, model.encode_image(view).final, rtol=1e-4, atol=1e-5)


def test_label_smoothing_and_soft_margin_are_switched(small_config):
    def losses(overrides):
        config = small_config({"MODEL.USE_SSL": False, **overrides})
        return build_stage2(config, model_of(config))(batch_of(augmented=False)).terms

    plain, off, soft = losses({}), losses({"MODEL.IF_LABELSMOOTH": "off"}), losses({"MODEL.NO_MARGIN": True})
    assert plain["loss_i2t"] != off["loss_i2t"] and plain["loss_triplet"] == off["loss_triplet"]
    assert plain["loss_triplet"] != soft["loss_triplet"] and plain["loss_id"] == soft["loss_id"]


def test_unknown_cameras_get_no_side_information(small_config):
    model = model_of(small_config()).eval()
    images, unknown = torch.randn(3, 3, 32, 16), torch.tensor([-1, 0, 1])
    with torch.no_grad():
        plain, mixed = model.encode_image(images), model.encode_image(images, unknown)
    assert torch.allclose(plain.final[0], mixed.final[0], atol=1e-6)
    assert not torch.allclose(plain.final[1:], mixed.final[1:], atol=1e-6)


def test_a_pair_table_is_read_by_camera_and_view(small_config):
    config = small_config({"MODEL.SIE_VIEW": True})
    model = build_model(config, num_classes=4, num_cameras=3, num_views=8)
    rows = model.side_information(torch.tensor([2, 1, 0]), torch.tensor([5, -1, 0]))
    torch.testing.assert_close(rows[0], model.cv_embed[2 * 8 + 5])
    assert (rows[1] == 0).all(), "unknown viewpoint"
    torch.testing.assert_close(rows[2], model.cv_embed[0])


def test_sie_coefficient_scales_the_table(small_config):
    model = model_of(small_config({"MODEL.SIE_COE": 2.5}))
    ids = torch.tensor([0, 1])
    torch.testing.assert_close(model.side_information(ids, None), 2.5 * model.cv_embed)
