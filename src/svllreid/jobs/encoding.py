"""The configuration under which images that are no test set are embedded."""

from __future__ import annotations

from pathlib import Path

from svllreid.config import Config, from_tree
from svllreid.models.checkpoint import read_info


def fitting_config(config: Config | None, weights: Path, *, cameras: bool) -> tuple[Config | None, list[str]]:
    """The configuration, side information off where camera numbers are not those of the training set, and a note.

    Args:
        config: the user's; None takes the one beside the checkpoint.
        weights: the checkpoint.
        cameras: whether cameras and viewpoints are numbered as in the training set.
    Returns: the configuration for `Encoder.load`, and what to tell the user.
    """
    if config is None and (info := read_info(weights)) is not None:
        config = from_tree(info.config, str(weights))
    if config is None or cameras or not (config.model.sie_camera or config.model.sie_view):
        return config, []
    off = {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    note = "side information is left out, as camera numbers may be others than in training; --cameras adds it"
    return from_tree(config.to_yaml_tree(), str(weights), off), [note]
