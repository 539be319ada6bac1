"""The command `svllreid test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svllreid.cli.options import ConfigFile, Device, Overrides, SkipUnreadable

# Beginnings of the keys that count for saved features; the size is that of the pictures in ranklist.png.
FOR_FEATURES = ("TEST.RE_RANKING", "TEST.FAR", "INPUT.SIZE_", "OUTPUT_DIR")


def test(
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
    save_features: Annotated[
        bool, typer.Option("--save-features", help="Also write features and labels to features.npz.")
    ] = False,
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rank saved features again, without a model.")
    ] = None,
) -> None:
    """Test the checkpoint TEST.WEIGHT: print mAP and CMC, write metrics.json, queries.csv, ranklist.png, report.html.

    Without --config-file, the configuration beside the checkpoint is used. Without OUTPUT_DIR, the files go to a folder
    test_DATASET beside the checkpoint. DATASETS.TEST names the datasets to test on, if not the one trained on.

    Examples:

    `svllreid test TEST.WEIGHT outputs/market/ViT-B-16_60.pth DATASETS.TEST "[market1501, dukemtmc]"`

    `svllreid test TEST.WEIGHT outputs/market/ViT-B-16_60.pth OUTPUT_DIR outputs/tested --save-features`

    `svllreid test --features outputs/tested/features.npz TEST.RE_RANKING true OUTPUT_DIR outputs/reranked`
    """
    from svllreid.cli.tables import plain_console, print_metrics
    from svllreid.config import load_config, override_pairs
    from svllreid.errors import ConfigError
    from svllreid.jobs.preparing import Options
    from svllreid.jobs.testing import asks_for_sie, run_features, run_test, test_config

    given = dict(override_pairs(overrides or ()))
    if features is not None:
        if save_features or skip_unreadable or device != "auto":
            raise ConfigError("--features ranks on the CPU, without images; leave out the other options")
        if idle := [key for key in given if not key.startswith(FOR_FEATURES)]:
            raise ConfigError(
                f"--features ranks features whose model and images cannot be changed any more: {', '.join(idle)} "
                "would have no effect; leave it out, or test the checkpoint without --features"
            )
        config = load_config(config_file, overrides or ())
    else:
        config = test_config(config_file, overrides or ())
    if not config.test.re_ranking and (idle := [key for key in given if key.startswith("TEST.RE_RANKING_")]):
        raise ConfigError(f"{', '.join(idle)} would have no effect without re-ranking; add TEST.RE_RANKING true")
    if features is not None:
        metrics = run_features(features, config)
    else:
        options = Options(device, skip_unreadable=skip_unreadable, keep_sie=asks_for_sie(config, overrides or ()))
        metrics = run_test(config, options, save_features=save_features)
    print_metrics(plain_console(), metrics)


test.__test__ = False  # type: ignore[attr-defined]  # not a test case, whatever its name
