"""The keys and options behind the settings that errors name in words."""

from __future__ import annotations

from collections.abc import Callable

from svllreid.errors import ReidError

SETTINGS = {
    "batch size": ("SOLVER.STAGE2.IMS_PER_BATCH",),
    "images of an identity": ("DATALOADER.NUM_INSTANCE",),
    "configuration file": ("--config-file",),
    "dataset": ("DATASETS.NAMES",),
    "dataset folder": ("DATASETS.ROOT_DIR",),
    "held-out share": ("DATASETS.VAL_IDENTITIES",),
    "noun": ("DATASETS.NOUN",),
    "viewpoint labels": ("DATASETS.VERI_VIEWS",),
    "unlabelled test images": ("TEST.VERI_DROP_UNLABELLED",),
    "image cache": ("DATALOADER.CACHE",),
    "cache folder": ("DATALOADER.CACHE_DIR",),
    "image size": ("INPUT.SIZE_TRAIN",),
    "stride": ("MODEL.STRIDE_SIZE",),
    "backbone": ("MODEL.NAME",),
    "pretrained weights": ("MODEL.PRETRAINED",),
    "text stage": ("MODEL.USE_TEXT",),
    "side information": ("MODEL.SIE_CAMERA", "MODEL.SIE_VIEW"),
    "self-supervision": ("MODEL.USE_SSL", "MODEL.USE_SSL_STAGE1", "MODEL.SSL_TYPE"),
    "self-supervision widths": ("MODEL.SSL_HIDDEN_DIM", "MODEL.SSL_OUT_DIM"),
    "learning rate": ("SOLVER.STAGE1.BASE_LR", "SOLVER.STAGE2.BASE_LR"),
    "precision": ("SOLVER.PRECISION",),
    "layer decay": ("SOLVER.STAGE2.LAYER_DECAY",),
    "sharding": ("SOLVER.SHARD",),
    "Weights & Biases": ("SOLVER.WANDB",),
    "output folder": ("--output", "OUTPUT_DIR"),
    "unreadable images": ("--skip-unreadable",),
    "starting over": ("--fresh",),
    "stage": ("--stage",),
    "cameras left out": ("--not-camera",),
    "waiting": ("--wait",),
    "missing crops": ("--drop-missing",),
    "weights": ("--weights",),
    "calibration images": ("--calibrate",),
    "calibration": ("--calibration",),
    "splits": ("--split",),
    "cameras of the two": ("--camids",),
    "state folder": ("--folder",),
    "TLS files": ("--tls-certificate", "--tls-key"),
    "address": ("--host", "--port"),
}
"""Keys and options by setting; a test compares them with the schema, and the settings with the errors in the source."""


FIRST_ALONE = ("output folder",)
"""Settings that have one key or option in each command: the first one that the command has."""
REMEDIES = {"unreadable images": ", or leave such images out"}
"""Settings that are a remedy of their own, with the words that say so. They go where the command has the option."""


def with_keys(error: ReidError, has: Callable[[str], bool] = lambda name: True) -> str:
    """The message of an error, with the keys and options that change what it names.

    Args:
        error: the error.
        has: whether the command in which it was raised has an option, or takes a key. Others are not named.

    >>> from svllreid.errors import ConfigError
    >>> print(with_keys(ConfigError("the batch holds one identity; raise the batch size", settings=("batch size",))))
    the batch holds one identity; raise the batch size (SOLVER.STAGE2.IMS_PER_BATCH)
    """
    keys: list[str] = []
    remedies = ""
    for setting in error.settings:
        usable = [key for key in SETTINGS[setting] if has(key)]
        keys += usable[:1] if setting in FIRST_ALONE else usable
        remedies += REMEDIES.get(setting, "") if usable else ""
    if not keys:
        return str(error)
    first, newline, rest = str(error).partition("\n")  # a list of files may follow the first line
    colon = ":" if first.endswith(":") else ""
    return f"{first.removesuffix(':')}{remedies} ({', '.join(keys)}){colon}{newline}{rest}"
