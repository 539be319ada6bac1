"""The catalogue of published models agrees with the shipped configurations and the network."""

import pytest
import torch

from svllreid import build_model, load_config
from svllreid.errors import CheckpointError
from svllreid.jobs.published_models import settings
from svllreid.models.checkpoint import describe
from svllreid.models.published import catalogue, find


def test_all_published_files_are_there_and_three_have_no_link():
    models = catalogue()
    ids = [model.drive_id for model in models if model.drive_id]
    assert len({model.name for model in models}) == len(models) == 36
    assert len(set(ids)) == len(ids) == 33
    missing = [(model.method, model.dataset) for model in models if not model.drive_id]
    assert missing == [("SVLL-ReID", dataset) for dataset in ("dukemtmc", "veri", "VehicleID")]
    assert all((model.reported is None) == (model.source is None) for model in models)


def configuration(model, *words):
    return load_config(model.config, [*(word for pair in settings(model).items() for word in pair), *words])


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_configuration_says_what_the_catalogue_says(model):
    config = configuration(model)
    assert config.datasets.names == model.dataset
    assert config.model.name == model.backbone
    assert tuple(config.input.size_test) == tuple(config.input.size_train) == model.size
    assert tuple(config.model.stride_size) == (model.stride, model.stride)
    assert (config.model.sie_camera, config.model.sie_view) == (model.sie_camera, model.sie_view)
    assert config.model.sie_coe == 1 or not (model.sie_camera or model.sie_view)
    assert config.model.use_text == ("baseline" not in model.method)


SHAPES = {(model.backbone, model.stride, model.size): model for model in catalogue()}


@pytest.mark.parametrize("model", SHAPES.values(), ids=lambda model: model.name)
def test_expected_shapes_are_those_of_the_full_network(model):
    with torch.device("meta"):
        network = build_model(configuration(model, "MODEL.USE_TEXT", "false"), num_classes=3, clip="random")
    assert describe(network.state_dict()) == model.expected


@pytest.mark.parametrize(
    ("name", "rows", "sides"),
    [
        ("clipreid-vit-sie-olp-dukemtmc", 8, ("true", "false")),
        ("clipreid-vit-sie-olp-veri", 160, ("true", "true")),
        ("clipreid-vit-sie-olp-veri", 20, ("true", "false")),
        ("clipreid-vit-sie-olp-veri", 8, ("false", "true")),
        ("clipreid-vit-sie-olp-veri", 0, ("false", "false")),
        ("clipreid-vit-sie-olp-vehicleid", 1, ("true", "false")),
        ("clipreid-vit-sie-olp-vehicleid", 0, (None, None)),
    ],
)
def test_the_table_in_the_file_tells_the_side_information(name, rows, sides):
    keys = settings(find(name), rows)
    assert (keys.get("MODEL.SIE_CAMERA"), keys.get("MODEL.SIE_VIEW")) == sides


def test_an_unknown_name_gets_the_nearest():
    assert find("svllreid-vit-msmt17").drive_id == "1AIhZRnbphAj3rzyLEtLuMOBGR7Fp8IRE"
    with pytest.raises(CheckpointError, match=r"'svllreid-market1501'; nearest: svllreid-vit-market1501"):
        find("svllreid-market1501")
    with pytest.raises(CheckpointError, match=r"'42'; there are svllreid-vit-msmt17, .*baseline-rn50-vehicleid"):
        find("42")
