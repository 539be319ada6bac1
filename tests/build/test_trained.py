"""Trained models, loaded for testing."""

import pytest
import torch

from svllreid.build import Encoder, load_trained
from svllreid.build.model import build_model
from svllreid.build.trained import _table_sizes
from svllreid.errors import CheckpointError
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.types import SideRows


@pytest.fixture
def saved(small_config, tmp_path):
    """A checkpoint of three people before the cameras 5 and 9, and its network."""
    config = small_config()
    model = build_model(config, num_classes=3, num_cameras=2, clip="random")
    info = CheckpointInfo(config.to_yaml_tree(), 3, 2, 1, ["a", "b", "c"], 2, 7, "0", cameras=[5, 9], views=[])
    save_checkpoint(tmp_path / "trained.pth", model, info)
    return tmp_path / "trained.pth", model


def test_image_encoder_and_necks_are_loaded_alone(saved, small_config):
    path, before = saved
    model, config, info = load_trained(path)
    assert config == small_config() and info.epoch == 7
    assert model.side_rows == SideRows((5, 9), ())
    assert torch.equal(model.image_encoder.proj, before.image_encoder.proj)
    assert torch.equal(model.cv_embed, before.cv_embed)
    assert not {"text_encoder", "prompt_learner", "image_mlp", "text_mlp"} & {
        name for name, _ in model.named_children()
    }


def test_without_its_json_a_checkpoint_needs_a_configuration(saved, small_config):
    path, _ = saved
    path.with_suffix(".json").unlink()
    for load in (load_trained, Encoder.load):
        with pytest.raises(CheckpointError, match=r"has no \.json beside it .*--config-file.*MODEL\.SIE_COE"):
            load(path)
    model, config, info = load_trained(path, small_config())
    assert info is None and config == small_config()
    assert model.side_rows == SideRows.counted(2, 1), "cameras count from 0 where no file names them"


@pytest.mark.parametrize(
    ("camera", "view", "rows", "sizes"),
    [(True, False, 6, (6, 1)), (False, True, 6, (1, 6)), (True, True, 16, (2, 8))],
)
def test_rows_tell_cameras_and_views(small_config, camera, view, rows, sizes):
    config = small_config({"MODEL.SIE_CAMERA": camera, "MODEL.SIE_VIEW": view})
    assert _table_sizes({"cv_embed": torch.zeros(rows, 4)}, config, "file", None) == sizes
