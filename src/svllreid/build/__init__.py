"""Composition root: the only package that turns a Config into objects."""

from svllreid.build.compiling import compile_task
from svllreid.build.data import (
    TrainingData,
    build_cache_spec,
    build_sampler,
    build_splits,
    build_test_loader,
    build_test_splits,
    build_test_transform,
    build_to_device,
    build_train_loader,
    entries,
    load_dataset,
    noun_notes,
    trained_on,
)
from svllreid.build.device import (
    build_fabric,
    build_rerank,
    precision_of,
    shard_encoder,
)
from svllreid.build.embedding import build_embedder, build_export_embedder, build_prompt_embedder, transform_of
from svllreid.build.model import (
    build_model,
    build_model_for,
    build_optimizer,
    build_stage1,
    build_stage2,
    check_stage2,
)
from svllreid.build.text import TextEncoder
from svllreid.build.trained import (
    EXPORTED,
    Encoder,
    load_trained,
)

__all__ = [
    "EXPORTED",
    "Encoder",
    "TextEncoder",
    "TrainingData",
    "build_cache_spec",
    "build_embedder",
    "build_export_embedder",
    "build_fabric",
    "build_model",
    "build_model_for",
    "build_optimizer",
    "build_prompt_embedder",
    "build_rerank",
    "build_sampler",
    "build_splits",
    "build_stage1",
    "build_stage2",
    "build_test_loader",
    "build_test_splits",
    "build_test_transform",
    "build_to_device",
    "build_train_loader",
    "check_stage2",
    "compile_task",
    "entries",
    "load_dataset",
    "load_trained",
    "noun_notes",
    "precision_of",
    "shard_encoder",
    "trained_on",
    "transform_of",
]
