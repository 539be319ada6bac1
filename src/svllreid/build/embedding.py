"""The objects that turn images into features as a configuration says."""

from __future__ import annotations

from lightning.fabric import Fabric

from svllreid.build.data import build_test_transform
from svllreid.build.device import build_fabric, precision_of
from svllreid.config import Config
from svllreid.data.transforms import TestTransform
from svllreid.embedding.contract import EmbeddingSpec
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


def build_prompt_embedder(config: Config, model: SVLLReID, fabric: Fabric, *, normalize: bool = False) -> TorchEmbedder:
    """What texts are compared with: the joint features without side information, as they are for stage 1's prompts.

    Raises: ConfigError: see `build_test_transform`.
    """
    return TorchEmbedder(
        model,
        build_test_transform(config),
        fabric.device,
        precision=precision_of(config, fabric),
        neck="joint",
        normalize=normalize,
        side_information=False,
    )


def build_export_embedder(config: Config, model: SVLLReID) -> TorchEmbedder:
    """What `svllreid export` writes: as `build_embedder`, in precision 32 on the CPU whatever the configuration says.

    Raises: ConfigError: see `build_test_transform`.
    """
    exact = config.model_copy(update={"solver": config.solver.model_copy(update={"precision": "32"})})
    return build_embedder(exact, model, build_fabric(exact, "cpu"))


def transform_of(spec: EmbeddingSpec) -> TestTransform:
    """The transform of images whose features get this record."""
    return TestTransform(spec.image_size, spec.pixel_mean, spec.pixel_std)
