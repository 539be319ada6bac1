"""Options that change speed or memory leave the numbers alone; those that change the numbers do what they say."""

import pytest
import torch

from svllreid import build_model
from svllreid.build import build_optimizer, build_stage2
from svllreid.errors import ConfigError
from svllreid.training.optim import set_lr
from svllreid.types import Batch


def batch_of(seed=0):
    images = torch.randn(3, 8, 3, 32, 16, generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([0, 0, 2, 2, 3, 3, 1, 1])
    return Batch(images[0], labels, torch.arange(8) % 2, torch.full((8,), -1), images[1], images[2])


def step(config):
    """Losses and gradients of one step."""
    task = build_stage2(config, build_model(config, num_classes=4, num_cameras=2).train())
    result = task(batch_of())
    result.loss.backward()
    gradients = {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}
    return result, gradients, task


@pytest.mark.parametrize(
    "keys",
    [
        {"SOLVER.STAGE2.MICRO_BATCH": 5},
        {"MODEL.GRAD_CHECKPOINTING": True},
        {"MODEL.GRAD_CHECKPOINTING": True, "SOLVER.STAGE2.MICRO_BATCH": 8},
    ],
)
def test_memory_saved_changes_no_gradient(small_config, keys):
    plain, expected, _ = step(small_config())
    saving, found, _ = step(small_config(keys))
    torch.testing.assert_close(saving.terms, plain.terms, rtol=1e-5, atol=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_micro_batches_hold_fewer_activations(small_config):
    def saved(keys):
        sizes = []
        config = small_config(keys)
        task = build_stage2(config, build_model(config, num_classes=4, num_cameras=2).train())
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            task(batch_of())
        return sum(sizes)

    assert saved({"SOLVER.STAGE2.MICRO_BATCH": 4}) < saved({}) / 2


def test_a_resnet_refuses_what_its_batchnorm_forbids(small_config):
    keys = {"MODEL.SIE_CAMERA": False, "SOLVER.STAGE2.MICRO_BATCH": 4}
    config = small_config(keys)
    model = build_model(config, num_classes=4)
    model.image_encoder = torch.nn.Identity()
    with pytest.raises(ConfigError, match=r"MICRO_BATCH: not for a ResNet"):
        build_stage2(config, model)


def test_frozen_blocks_get_no_gradient(small_config):
    _, gradients, task = step(small_config({"MODEL.FROZEN_BLOCKS": 2}))
    blocks = {name.split(".")[3] for name in gradients if "resblocks" in name}
    assert blocks == {"2", "3", "4", "5"}
    assert not any(name.startswith(("image_encoder.conv1", "image_encoder.positional")) for name in gradients)
    assert "cv_embed" in gradients and not any("resblocks.1." in name for name in task.trained)


def test_more_frozen_blocks_than_there_are(small_config):
    with pytest.raises(ConfigError, match=r"FROZEN_BLOCKS 7: the encoder has 6 blocks"):
        step(small_config({"MODEL.FROZEN_BLOCKS": 7}))


def test_layers_learn_slower_the_deeper_they_lie(small_config):
    config = small_config({"SOLVER.STAGE2.LAYER_DECAY": 0.5, "SOLVER.STAGE2.BIAS_LR_FACTOR": 2})
    task = build_stage2(config, build_model(config, num_classes=4, num_cameras=2))
    optimizer = build_optimizer(config, task)
    factors = {name: group["lr_factor"] for group in optimizer.param_groups for name in group["names"]}
    assert set(factors) == set(task.trained)
    assert factors["classifier.weight"] == factors["image_encoder.proj"] == 1
    assert factors["image_encoder.transformer.resblocks.5.mlp.c_fc.weight"] == 0.5
    assert factors["image_encoder.transformer.resblocks.5.mlp.c_fc.bias"] == 1.0
    assert factors["image_encoder.transformer.resblocks.0.mlp.c_fc.weight"] == 0.5**6
    assert factors["image_encoder.conv1.weight"] == 0.5**7
    set_lr(optimizer, 2.0)
    assert {group["lr"] for group in optimizer.param_groups} == {2.0 * factor for factor in factors.values()}


def test_adamw_decays_the_weights_themselves(small_config):
    config = small_config({"SOLVER.STAGE2.OPTIMIZER_NAME": "AdamW"})
    task = build_stage2(config, build_model(config, num_classes=4, num_cameras=2))
    assert isinstance(build_optimizer(config, task), torch.optim.AdamW)
    assert not isinstance(build_optimizer(small_config(), task), torch.optim.AdamW)


def test_flipped_features_are_their_mean(small_config):
    model = build_model(small_config(), num_classes=4, num_cameras=2).eval()
    images = batch_of().images
    with torch.no_grad():
        both = model.embed(images, flip=True)
        one, other = (model.embed(side, normalize=False) for side in (images, images.flip(3)))
    torch.testing.assert_close(both, torch.nn.functional.normalize(one + other, dim=1), atol=1e-5, rtol=1e-4)
