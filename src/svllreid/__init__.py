"""svllreid: image re-identification where self-supervision meets vision-language learning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svllreid.build import Encoder, TextEncoder, build_model, load_dataset
    from svllreid.calibration.calibration import Calibration
    from svllreid.config import load_config
    from svllreid.embedding.contract import EmbeddingSpec
    from svllreid.evaluation.features import FeatureSet
    from svllreid.evaluation.ranking.distance import distances
    from svllreid.evaluation.ranking.measures import Ranking, evaluate_features, evaluate_ranking
    from svllreid.evaluation.ranking.rerank import RerankOptions, rerank
    from svllreid.evaluation.verification import Verification, verify_features
    from svllreid.gallery.gallery import Gallery

__version__ = "0.1.0"

_HOMES = {
    "Calibration": "svllreid.calibration.calibration",
    "EmbeddingSpec": "svllreid.embedding.contract",
    "Encoder": "svllreid.build",
    "FeatureSet": "svllreid.evaluation.features",
    "Gallery": "svllreid.gallery.gallery",
    "Ranking": "svllreid.evaluation.ranking.measures",
    "RerankOptions": "svllreid.evaluation.ranking.rerank",
    "TextEncoder": "svllreid.build",
    "Verification": "svllreid.evaluation.verification",
    "build_model": "svllreid.build",
    "distances": "svllreid.evaluation.ranking.distance",
    "evaluate_features": "svllreid.evaluation.ranking.measures",
    "evaluate_ranking": "svllreid.evaluation.ranking.measures",
    "load_config": "svllreid.config",
    "load_dataset": "svllreid.build",
    "rerank": "svllreid.evaluation.ranking.rerank",
    "verify_features": "svllreid.evaluation.verification",
}
__all__ = [
    "Calibration",
    "EmbeddingSpec",
    "Encoder",
    "FeatureSet",
    "Gallery",
    "Ranking",
    "RerankOptions",
    "TextEncoder",
    "Verification",
    "build_model",
    "distances",
    "evaluate_features",
    "evaluate_ranking",
    "load_config",
    "load_dataset",
    "rerank",
    "verify_features",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'svllreid' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
