"""Composition root: the only file that turns a Config into objects."""

from __future__ import annotations

import torch

from svllreid.config import Config
from svllreid.models.clip import State, load_clip
from svllreid.models.prompts import PromptAugmentation
from svllreid.models.reid import SVLLReID
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import LossWeights, Stage2Task


def build_model(
    config: Config, *, num_classes: int, num_cameras: int = 1, num_views: int = 1, clip: str | State | None = None
) -> SVLLReID:
    """The network of a configuration, on the CPU; the same seed gives the same weights.

    Args:
        config: the run's configuration.
        num_classes: training identities.
        num_cameras, num_views: rows of the side information table, where one is learned.
        clip: CLIP's weights: None takes MODEL.PRETRAINED; or `openai`, an open_clip tag, a file, `random`, or a state
            dict in OpenAI's layout.
    Raises: ConfigError, CheckpointError: see `load_clip`.
    """
    model = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.solver.seed)
        return SVLLReID(
            load_clip(model.name, model.pretrained if clip is None else clip),
            num_classes=num_classes,
            num_cameras=num_cameras,
            num_views=num_views,
            image_size=config.input.size_train,
            stride=model.stride_size,
            sie_camera=model.sie_camera,
            sie_view=model.sie_view,
            sie_coe=model.sie_coe,
            noun=config.datasets.noun,
            use_text=model.use_text,
            language_head=model.use_text and model.use_ssl_stage1,
            vision_head=model.ssl_type if model.use_ssl else None,
            ssl_hidden_dim=model.ssl_hidden_dim or 4096,
            ssl_out_dim=model.ssl_out_dim or 256,
        )


def build_stage1(config: Config, model: SVLLReID) -> Stage1Task:
    """Stage 1's task."""
    stage = config.solver.stage1
    augment = PromptAugmentation(stage.prompt_aug_method, stage.prompt_aug_scale)
    used = augment if config.model.use_ssl_stage1 else None
    return Stage1Task(model, used, stage.ssl_loss_weight, stage.train_ssl_head)


def build_stage2(config: Config, model: SVLLReID) -> Stage2Task:
    """Stage 2's task; encodes every prompt once."""
    weights = LossWeights(
        config.model.id_loss_weight,
        config.model.triplet_loss_weight,
        config.model.i2t_loss_weight,
        config.solver.stage2.ssl_loss_weight,
    )
    margin = None if config.model.no_margin else config.solver.margin
    return Stage2Task(model, weights, margin, config.model.if_labelsmooth == "on", config.model.use_ssl)
