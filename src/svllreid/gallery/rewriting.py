"""A gallery written anew and put in the place of the old one: with another model, or without removed rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import GalleryError
from svllreid.gallery.crop import Crop, file_digest
from svllreid.gallery.milvus import NEXT, OLD, MilvusStore
from svllreid.gallery.record import GalleryRecord

logger = logging.getLogger(__name__)


def finish_swap(store: MilvusStore) -> None:
    """Finish the replacement of a gallery that was killed in the middle."""
    following, replaced = store.named(store.name + NEXT), store.named(store.name + OLD)
    if not store.exists() and following.exists():
        following.rename(store.name)
    if replaced.exists() and store.exists():
        replaced.drop()


def forget(store: MilvusStore, ids: Sequence[str]) -> None:
    """Remove crops from what an unfinished rewrite has filled so far, too."""
    following = store.named(store.name + NEXT)
    if following.exists():
        following.open()
        following.delete(ids)


def rewrite(
    store: MilvusStore, record: GalleryRecord, copy: Callable[[MilvusStore], int], *, continued: bool = True
) -> int:
    """Fill a new collection, and put it in the place of the old one.

    The old one serves until the new one is whole.

    Args:
        store: the gallery.
        record: of the new collection.
        copy: fills the new collection, and returns how many crops of the old one it left out.
        continued: whether a call that was killed goes on where it stopped, instead of from the start.
    Returns: what `copy` returned.
    Raises: GalleryError: the gallery was changed meanwhile.
    """
    following, replaced = store.named(store.name + NEXT), store.named(store.name + OLD)
    if following.exists() and not (continued and following.open() == record):
        logger.info("an unfinished rewrite is dropped")
        following.drop()
    if not following.exists():
        following.create(record)
    following.open()
    left_out = copy(following)
    following.flush()
    old, new = store.count(), following.count()
    if new + left_out != old:
        raise GalleryError(
            f"{store.uri}: {old} crops became {new}, as the gallery was changed meanwhile; give the same command again"
        )
    # Dropping is no single step: a kill in the middle of it must not leave half a gallery under this name.
    store.named(store.name).rename(replaced.name)
    following.rename(store.name)
    replaced.drop()
    return left_out


def copy_rows(store: MilvusStore, following: MilvusStore, progress: Callable[[int], None]) -> int:
    """Copy crops with their vectors."""
    for crops, vectors in store.crops_with_vectors():
        following.upsert(crops, vectors)
        progress(len(crops))
    return 0


def embed_again(
    store: MilvusStore,
    following: MilvusStore,
    encoder: FeatureEncoder,
    progress: Callable[[int], None],
    *,
    drop_missing: bool,
) -> int:
    """Embed the images of all crops with another model, from their files; returns how many had none any more.

    Raises: GalleryError: files are missing or have changed, and their crops are not to be dropped.
    """
    missing: list[str] = []
    _drop_removed(store, following)
    for crops in store.crops():
        done = following.find([crop.id for crop in crops])
        # What an earlier, unfinished call embedded gets the labels that it has now.
        following.relabel({crop.id: crop for crop in crops if done.get(crop.id, crop) != crop})
        todo = [crop for crop in crops if crop.id not in done]
        whole = [crop for crop in todo if _is_unchanged(crop)]
        embedded = {crop.id for crop in whole}
        missing += [crop.path or crop.id for crop in todo if crop.id not in embedded]
        _embed(whole, following, encoder, missing)
        progress(len(crops))
    if missing and not drop_missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise GalleryError(
            f"{store.uri}: {len(missing)} crops cannot be embedded again, as their files are missing or have changed "
            f"({', '.join(missing[:3])}{more}); restore them and give the same command again, or drop these crops",
            settings=("missing crops",),
        )
    return len(missing)


def _drop_removed(store: MilvusStore, following: MilvusStore) -> None:
    """Remove what an earlier, unfinished call embedded and was removed from the gallery since."""
    gone: list[str] = []
    for crops in following.crops():
        kept = store.find([crop.id for crop in crops])
        gone += [crop.id for crop in crops if crop.id not in kept]
    following.delete(gone)


def _is_unchanged(crop: Crop) -> bool:
    try:
        return bool(crop.path) and file_digest(Path(crop.path)) == crop.id
    except OSError:
        return False


def _embed(crops: Sequence[Crop], following: MilvusStore, encoder: FeatureEncoder, missing: list[str]) -> None:
    blocks = encoder.encode_stream(
        [crop.path for crop in crops],
        on_error="skip",
        on_skip=lambda index, error: missing.append(crops[index].path),
    )
    for indices, vectors in blocks:
        following.upsert([crops[index] for index in indices], vectors)


def with_encoder(record: GalleryRecord, encoder: FeatureEncoder) -> GalleryRecord:
    """The record of the same gallery with the vectors of another model."""
    return replace(record, spec=encoder.spec.without_side_information())
