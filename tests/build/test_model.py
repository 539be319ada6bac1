"""The network, the tasks of both stages and their optimisers as a configuration says."""

import pytest
import torch

from svllreid import build
from svllreid.build.model import _began_with_quick_gelu
from svllreid.errors import ConfigError
from svllreid.models.checkpoint import CheckpointInfo
from svllreid.models.self_supervision import SELF_SUPERVISION


def model_of(config, **counts):
    return build.build_model(config, clip="random", **{"num_classes": 4, "num_cameras": 2, **counts})


@pytest.mark.parametrize("count", ["num_classes", "num_cameras", "num_views"])
def test_counts_are_at_least_one(small_config, count):
    with pytest.raises(ConfigError, match=count):
        model_of(small_config(), **{count: 0})


def test_the_network_has_what_the_configuration_names(small_config):
    keys = {"MODEL.SIE_VIEW": True, "MODEL.SIE_COE": 0.5, "MODEL.STRIDE_SIZE": [8, 8], "DATASETS.NOUN": "bird"}
    model = model_of(small_config(keys), num_views=3)
    assert model.cv_embed.shape == (2 * 3, 256) and model.sie_coe == 0.5
    assert model.image_encoder.grid == (3, 1)
    assert (model.image_mlp.layer1.out_features, model.text_mlp.layer3.out_features) == (32, 16)
    assert model.ssl_loss is SELF_SUPERVISION["SIMCLR"].loss
    assert not torch.equal(model.prompt_learner.token_suffix, model_of(small_config()).prompt_learner.token_suffix)


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({}, {"prompt_learner", "text_encoder", "text_mlp", "image_mlp"}),
        ({"MODEL.USE_SSL_STAGE1": False}, {"prompt_learner", "text_encoder", "image_mlp"}),
        ({"MODEL.USE_SSL": False}, {"prompt_learner", "text_encoder", "text_mlp"}),
        ({"MODEL.USE_TEXT": False}, {"image_mlp"}),
    ],
)
def test_parts_that_are_switched_off_are_not_made(small_config, keys, parts):
    optional = {"prompt_learner", "text_encoder", "text_mlp", "image_mlp"}
    assert optional & {name for name, _ in model_of(small_config(keys)).named_children()} == parts


def test_a_model_for_training_data_knows_its_cameras(small_config, data):
    model = build.build_model_for(small_config(), data, clip="random")
    assert (model.num_classes, model.num_cameras, model.side_rows) == (4, 2, data.side_rows)
    assert data.side_rows.cameras == (3, 8)


def info(config, quick_gelu):
    return CheckpointInfo(config.to_yaml_tree(), 3, 1, 1, [1, 2, 3], 2, 1, "0", quick_gelu=quick_gelu)


@pytest.mark.parametrize(
    ("pretrained", "recorded", "expected"),
    [("openai", None, True), ("laion2b_s34b_b88k", None, False), ("laion2b_s34b_b88k", True, True)],
)
def test_activation_of_a_checkpoint(small_config, pretrained, recorded, expected):
    config = small_config({"MODEL.NAME": "ViT-B-16", "MODEL.PRETRAINED": pretrained})
    assert _began_with_quick_gelu("ViT-B-16", info(config, recorded)) == expected
    assert _began_with_quick_gelu("ViT-B-16", None), "published checkpoints began with OpenAI's weights"


def test_stage1_task(small_config):
    keys = {
        "SOLVER.STAGE1.SSL_LOSS_WEIGHT": 0.3,
        "SOLVER.STAGE1.PROMPT_AUG_METHOD": "swap",
        "SOLVER.STAGE1.PROMPT_AUG_SCALE": 0.2,
    }
    task = build.build_stage1(small_config(keys), model_of(small_config()))
    assert (task.ssl_weight, task.augment.method, task.augment.scale) == (0.3, "swap", 0.2)
    without = small_config({"MODEL.USE_SSL_STAGE1": False})
    assert build.build_stage1(without, model_of(without)).augment is None


def test_stage2_task(small_config):
    keys = {
        "MODEL.ID_LOSS_WEIGHT": 0.1,
        "MODEL.TRIPLET_LOSS_WEIGHT": 0.2,
        "MODEL.I2T_LOSS_WEIGHT": 0.3,
        "SOLVER.STAGE2.SSL_LOSS_WEIGHT": 0.4,
        "SOLVER.MARGIN": 0.6,
        "SOLVER.STAGE2.MICRO_BATCH": 5,
        "MODEL.GRAD_CHECKPOINTING": True,
        "MODEL.USE_SSL": False,
    }
    config = small_config(keys)
    task = build.build_stage2(config, model_of(config))
    weights = task.weights
    assert (weights.identity, weights.triplet, weights.i2t, weights.ssl) == (0.1, 0.2, 0.3, 0.4)
    assert (task.margin, task.smooth, task.use_ssl) == (0.6, True, False)
    assert (task.model.micro_batch, task.model.image_encoder.recompute) == (5, True)
    other = build.build_stage2(
        small_config({"MODEL.NO_MARGIN": True, "MODEL.IF_LABELSMOOTH": "off"}), model_of(small_config())
    )
    assert (other.margin, other.smooth, other.use_ssl) == (None, False, True)


def groups(optimizer):
    """What each group trains: whether biases, with which learning rate and decay."""
    return {
        (all("bias" in name for name in group["names"]), round(group["lr"], 9), group["weight_decay"])
        for group in optimizer.param_groups
    }


def test_stage1_optimiser(small_config):
    keys = {
        "SOLVER.STAGE1.BASE_LR": 0.1,
        "SOLVER.STAGE1.WEIGHT_DECAY": 0.2,
        "SOLVER.STAGE1.WEIGHT_DECAY_BIAS": 0.3,
        "SOLVER.STAGE1.TRAIN_SSL_HEAD": True,
    }
    config = small_config(keys)
    optimizer = build.build_optimizer(config, build.build_stage1(config, model_of(config)))
    assert type(optimizer) is torch.optim.Adam
    assert groups(optimizer) == {(False, 0.1, 0.2), (True, 0.1, 0.3)}
    names = {name for group in optimizer.param_groups for name in group["names"]}
    assert names - {name for name in names if name.startswith("text_mlp.")} == {"prompt_learner.cls_ctx"}


def test_stage2_optimiser(small_config):
    keys = {
        "SOLVER.STAGE2.BASE_LR": 0.1,
        "SOLVER.STAGE2.BIAS_LR_FACTOR": 3,
        "SOLVER.STAGE2.WEIGHT_DECAY": 0.2,
        "SOLVER.STAGE2.WEIGHT_DECAY_BIAS": 0.4,
    }
    config = small_config(keys)
    optimizer = build.build_optimizer(config, build.build_stage2(config, model_of(config)))
    assert groups(optimizer) == {(False, 0.1, 0.2), (True, 0.3, 0.4)}
