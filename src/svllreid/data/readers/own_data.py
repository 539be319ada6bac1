"""The rules that both readers of a user's own data, folder and manifest, follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from svllreid.data.readers.layout import by_path, note
from svllreid.data.readers.numbers import Labelled, to_samples
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Pid, Splits

SPLITS = ("train", "query", "gallery")
# Longer numbers do not fit into the 64-bit arrays in which identities are compared.
MAX_DIGITS = 18


def identities(texts: Iterable[str]) -> dict[str, Pid]:
    """The pid of each identity's text: int for all if every text is a number, else text for all.

    Texts such as `7` and `007`, which differ only in leading zeros, are different identities; then all are text.

    >>> identities(["7", "12"]) == {"7": 7, "12": 12}, identities(["7", "anna"]) == {"7": "7", "anna": "anna"}
    (True, True)
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
    """Makes the splits of a user's own data.

    Args:
        name: the reader's name.
        images: the images of train, query and gallery; all cameras are known, or all are UNKNOWN.
        source: the folder or file, for messages.
        noun: the prompt's noun.
        notes: the reader's notes, which come first.
    Returns: splits of the protocol `cross-camera`, or `leave-self-out` if cameras are not known. Train may be empty
        (for testing only), as may query and gallery together (for training only); a note says so.
    Raises: DatasetError: there is no image at all, or only one of query and gallery has images.
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
    all_notes = list(notes)
    if not train:
        all_notes.append("no training images: for testing only")
    if not query:
        all_notes.append("no query and gallery images: for training only")
    all_notes += _alike("train", images["train"]) + _alike("query and gallery", (*images["query"], *images["gallery"]))
    unknown = all(sample.camid == UNKNOWN for sample in (*train, *query, *gallery))
    if unknown:
        all_notes.append("cameras unknown: only a query's own picture is left out of its ranking (leave-self-out)")
    protocol = "leave-self-out" if unknown else "cross-camera"
    return Splits(name, train, query, gallery, protocol=protocol, noun=noun, notes=tuple(all_notes))


def _alike(place: str, images: Sequence[Labelled]) -> list[str]:
    """A note on identities that differ in leading zeros only, as when a spreadsheet turned 007 into 7."""
    spellings: dict[str, list[str]] = {}
    for text in sorted({image.identity for image in images}):
        if text.isascii() and text.isdigit():
            spellings.setdefault(text.lstrip("0"), []).append(text)
    alike = [" and ".join(texts) for texts in spellings.values() if len(texts) > 1]
    return note(place, "identities that differ in leading zeros only, and count as different ones", alike)
