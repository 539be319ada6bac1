"""The command that tests a published model."""

from __future__ import annotations

import shlex
from pathlib import Path

from svllreid.models.published import PublishedModel

# The key of each setting in which the catalogue differs from a shipped configuration.
KEYS = {"stride": "MODEL.STRIDE_SIZE", "sie_coe": "MODEL.SIE_COE"}


def settings(model: PublishedModel, table_rows: int | None = None) -> dict[str, str]:
    """The keys and values with which a published model is tested, besides its shipped configuration.

    Args:
        model: of the catalogue.
        table_rows: rows of the side information table in its file, 0 without one; they tell what it was trained with.
            None: as in its published configuration.
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
    """The shell command that tests the file `weight` of a published model.

    In it `data` stands for the folder of the datasets.

    Args:
        model, table_rows: see `settings`.
        weight: the file.
    """
    keys = {
        **settings(model, table_rows),
        "DATASETS.ROOT_DIR": "data",
        "TEST.WEIGHT": str(weight),
        "OUTPUT_DIR": f"outputs/{model.name}",
    }
    words = [word for pair in keys.items() for word in pair]
    return shlex.join(["svllreid", "test", "--config-file", model.config, *words])
