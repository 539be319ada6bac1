"""A checkpoint whose every setting matters: side information, neck and norm all change its features."""

from pathlib import Path

import pytest
import torch

import svllreid
from svllreid.build import TrainingData, build_model_for, build_splits
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint


@pytest.fixture(scope="session")
def make_checkpoint(small_config):
    """Writes an untrained checkpoint of the small people with random necks and side information."""

    def make(path: Path, seed: int = 0) -> Path:
        config = small_config({"MODEL.USE_TEXT": False})
        data = TrainingData.of(build_splits(config).train)
        model = build_model_for(config, data, clip="random")
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.cv_embed.copy_(torch.randn(model.cv_embed.shape, generator=random))
            for neck in (model.bottleneck, model.bottleneck_proj):
                neck.running_mean.copy_(torch.randn(neck.running_mean.shape, generator=random))
                neck.running_var.copy_(torch.rand(neck.running_var.shape, generator=random) + 0.5)
        save_checkpoint(
            path,
            model,
            CheckpointInfo(
                config.to_yaml_tree(),
                len(data.labels),
                data.side_rows.num_cameras,
                data.side_rows.num_views,
                list(data.labels),
                2,
                1,
                svllreid.__version__,
            ),
        )
        return path

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint, tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny_1.pth")
