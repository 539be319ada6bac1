"""The objects that turn images into features as a configuration says."""

from __future__ import annotations

from lightning.fabric import Fabric

from svllreid.build.data import build_test_transform
from svllreid.build.device import precision_of
from svllreid.config import Config
from svllreid.embedding.torch import TorchEmbedder
from svllreid.models.reid import SVLLReID


def build_embedder(config: Config, model: SVLLReID, fabric: Fabric) -> TorchEmbedder:
    """The model with the configuration's TEST and INPUT settings, side information and precision.

    Raises: ConfigError: see `build_test_transform`.
    """
    return TorchEmbedder(
        model,
        build_test_transform(config),
        fabric.device,
        precision=precision_of(config, fabric),
        neck=config.test.neck_feat,
        normalize=config.test.feat_norm == "yes",
        flip=config.test.flip,
        side_information=config.model.sie_camera or config.model.sie_view,
    )


def build_prompt_embedder(config: Config, model: SVLLReID, fabric: Fabric) -> TorchEmbedder:
    """What stage 1 compares prompts with: the joint features as they are, without side information.

    Raises: ConfigError: see `build_test_transform`.
    """
    return TorchEmbedder(
        model,
        build_test_transform(config),
        fabric.device,
        precision=precision_of(config, fabric),
        neck="joint",
        normalize=False,
        side_information=False,
    )
