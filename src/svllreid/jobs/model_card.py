"""The model card of a trained model: what it is, what it was trained on, what was measured, what is left to fill in."""

from __future__ import annotations

from typing import Any

from svllreid.build import entries
from svllreid.config.yaml_file import dump_tree
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.models.checkpoint import CheckpointInfo
from svllreid.models.hub import METRICS

TO_FILL_IN = "TO FILL IN"
_HEAD = """---
library_name: svllreid
pipeline_tag: image-feature-extraction
tags: [re-identification, svllreid]
# license: {to_fill_in}: see https://huggingface.co/docs/hub/repositories-licenses
---
# {name}

Features of {noun} images for re-identification: images of the same {noun} are near each other. Trained with svllreid
{version}.

```python
import svllreid

encoder = svllreid.Encoder.load("hf://{repo}")
features = encoder.encode(["a.jpg", "b.jpg"])  # (2, {dim})
```
"""
_MEASURES = {"mAP": "mAP", "rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mINP": "mINP"}


def model_card(repo: str, info: CheckpointInfo, spec: EmbeddingSpec, metrics: dict[str, Any] | None) -> str:
    """The text of a model card, in Markdown. What only the publisher knows is marked `TO FILL IN`.

    Args:
        repo: `org/name`, where the card will be.
        info: the content of the checkpoint's .json file.
        spec: the record of the features.
        metrics: the content of metrics.json; None where the model was not tested.
    """
    head = _HEAD.format(
        repo=repo,
        name=repo.rpartition("/")[2],
        noun=info.config["DATASETS"].get("NOUN") or "person",
        version=info.version,
        dim=spec.dim,
        to_fill_in=TO_FILL_IN,
    )
    sections = {
        "Model": _model(info, spec),
        "Training data": _data(info),
        "Metrics": _results(metrics),
        "Settings": f"<details><summary>All keys</summary>\n\n```yaml\n{dump_tree(info.config)}```\n\n</details>",
        "Limits": f"{TO_FILL_IN}: what the model must not be used for, and whom or what it was not tested on.",
        "Licence": f"{TO_FILL_IN}, here and at the top of this file. Licences of the training data and of the "
        "pretrained weights may restrict the use of this model.",
    }
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def _model(info: CheckpointInfo, spec: EmbeddingSpec) -> str:
    model, (height, width) = info.config["MODEL"], spec.image_size
    sides = [name for name, used in (("cameras", spec.sie_camera), ("viewpoints", spec.sie_view)) if used]
    rows = {
        "backbone": model["NAME"],
        "pretrained weights": model.get("PRETRAINED") or TO_FILL_IN,
        "images": f"{height} x {width}",
        "features": f"{spec.dim} numbers{', of length 1' if spec.normalized else ''}, compared by Euclidean distance",
        "side information": " and ".join(sides) or "none",
        "trained to": f"epoch {info.epoch} of stage {info.stage}",
        "fingerprint of the features": spec.fingerprint,
    }
    return _table(("", ""), rows.items())


def _data(info: CheckpointInfo) -> str:
    names = " and ".join(entries(info.config["DATASETS"]["NAMES"]))
    cameras = f", {info.num_cameras} cameras" if info.num_cameras > 1 else ""
    return f"{names}: {info.num_classes} identities{cameras}. {TO_FILL_IN}: where the data comes from, and who agreed."


def _results(metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return f"{TO_FILL_IN}: the model was not tested before it was uploaded."
    measured = {label: metrics[name] for name, label in _MEASURES.items() if isinstance(metrics.get(name), float)}
    table = _table(tuple(measured), [tuple(f"{100 * value:.1f} %" for value in measured.values())])
    counts = f"{metrics.get('num_queries')} queries, {metrics.get('num_gallery')} gallery images"
    tested = f"{metrics.get('dataset')}, protocol {metrics.get('protocol')}: {counts}"
    return f"{table}\n\n{tested}. All numbers are in `{METRICS}`."


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
