"""The command that tests a published model."""

from __future__ import annotations

import shlex
from pathlib import Path

from svllreid.models.published import PublishedModel

# The key of each setting in which published models differ from the shipped configurations.
KEYS = {"stride": "MODEL.STRIDE_SIZE", "sie_coe": "MODEL.SIE_COE"}


def settings(model: PublishedModel, table_rows: int | None = None) -> dict[str, str]:
    """The keys, with their values, that must be set to test a published model with its shipped configuration.

    Args:
        model: the entry of the catalogue.
        table_rows: number of rows of the side information in the model's file, 0 if it has none. It tells whether the
            model was trained with cameras, viewpoints or both. None: as in the published configuration.
    """
    camera, view = model.sie_camera, model.sie_view
    if table_rows is not None:
        view = bool(model.views and table_rows) and table_rows % model.views == 0
        camera = table_rows > 0 and not (view and table_rows == model.views)
    changes = {KEYS[name]: value for name, value in model.changes}
    sides = {"MODEL.SIE_CAMERA": str(camera).lower(), "MODEL.SIE_VIEW": str(view).lower()}
    with_sides = camera or view or model.sie_camera or model.sie_view
    return {"DATASETS.NAMES": model.dataset, **changes, **(sides if with_sides else {})}


def shell_command(model: PublishedModel, weight: str | Path, table_rows: int | None = None) -> str:
    """The shell command that tests a published model, with `data` as the folder of the datasets.

    Args:
        model, table_rows: see `settings`.
        weight: the file of the model.
    """
    keys = {
        **settings(model, table_rows),
        "DATASETS.ROOT_DIR": "data",
        "TEST.WEIGHT": str(weight),
        "OUTPUT_DIR": f"outputs/{model.name}",
    }
    words = [word for pair in keys.items() for word in pair]
    return shlex.join(["svllreid", "test", "--config-file", model.config, *words])
