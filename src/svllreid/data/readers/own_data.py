"""Rules that the two readers of a user's own data, folder and manifest, share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from svllreid.data.readers.layout import by_path
from svllreid.data.readers.numbers import Labelled, to_samples
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Pid, Splits

SPLITS = ("train", "query", "gallery")
# Longer numbers do not fit the 64-bit arrays that identities are compared in.
MAX_DIGITS = 18


def identities(texts: Iterable[str]) -> dict[str, Pid]:
    """The pid of each identity's text: all int where every text is a number, else all str.

    Numbers that differ in leading zeros only (`7`, `007`) are different identities, so all stay text then.
    """
    distinct = set(texts)
    if all(text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS for text in distinct):
        numbers: dict[str, Pid] = {text: int(text) for text in distinct}
        if len(set(numbers.values())) == len(distinct):
            return numbers
    return {text: text for text in distinct}


def assemble(
    name: str,
    images: Mapping[str, Sequence[Labelled]],
    source: object,
    *,
    noun: str,
    notes: Sequence[str] = (),
) -> Splits:
    """Splits of a user's own data.

    Args:
        name: the reader's name.
        images: of train, query and gallery; their cameras are all known or all UNKNOWN.
        source: the folder or file, for messages.
        noun: the prompt's noun.
        notes: what the reader has to say so far.
    Returns: `cross-camera`, or `leave-self-out` where cameras are unknown. Without train images the splits serve for
        testing only, with neither query nor gallery for training only; a note says so.
    Raises: DatasetError: no image at all, or a query without gallery or the reverse.
    """
    train, query, gallery = map(by_path, to_samples(identities, *(images[split] for split in SPLITS)))
    if not train and not query and not gallery:
        raise DatasetError(f"{name}: {source} holds no image in any of train, query, gallery.")
    if bool(query) != bool(gallery):
        present, empty = ("query", "gallery") if query else ("gallery", "query")
        raise DatasetError(
            f"{name}: {source} has {present} images but no {empty} images. Testing needs both: add the {empty} images, "
            "or remove both to train only."
        )
    said = list(notes)
    if not train:
        said.append("no training images: for testing only")
    if not query:
        said.append("no query and gallery images: for training only")
    unknown = all(sample.camid == UNKNOWN for sample in (*train, *query, *gallery))
    if unknown:
        said.append("cameras unknown: only a query's own picture is left out of its ranking (leave-self-out)")
    protocol = "leave-self-out" if unknown else "cross-camera"
    return Splits(name, train, query, gallery, protocol=protocol, noun=noun, notes=tuple(said))
