"""svllreid test"""

from __future__ import annotations

from rich.console import Console

from svllreid.cli.options import ConfigFile, Device, Overrides, SkipUnreadable


def test(
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Test the checkpoint TEST.WEIGHT: print mAP and CMC, write metrics.json and a picture of the worst queries.

    Without --config-file the configuration beside the checkpoint is taken; without OUTPUT_DIR the files go to a folder
    test_DATASET beside it.

    Example: `svllreid test --config-file person/vit_svllreid.yml DATASETS.ROOT_DIR ~/data TEST.WEIGHT
    outputs/market/ViT-B-16_60.pth`
    """
    from svllreid.cli.tables import print_metrics
    from svllreid.jobs.preparing import Options
    from svllreid.jobs.testing import run_test, test_config

    config = test_config(config_file, overrides or ())
    print_metrics(Console(), run_test(config, Options(device=device, skip_unreadable=skip_unreadable)))


test.__test__ = False  # type: ignore[attr-defined]  # not a test case, whatever its name
