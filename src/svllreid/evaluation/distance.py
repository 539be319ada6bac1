"""Distances between two sets of features, computed in blocks of rows and never held whole unless asked for.

On a CPU every product is one matrix product of a fixed, padded shape, so a distance does not depend on how the work is
cut into blocks, and equal gallery rows have equal distances to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from svllreid.errors import EvaluationError

METRICS = ("euclidean", "cosine")
ProgressCallback = Callable[[int, int], None]

_TILE_SIDES = {"cpu": (512, 8192), "cuda": (1024, 16384)}  # most query rows, gallery rows of one matrix product
_FEW_ROWS = 128  # where the gallery is so large that more make too large a block
_BLOCK_BYTES = {"cpu": 96 << 20, "cuda": 2 << 30}  # of a block of distance rows
_CHUNK_BYTES = 16 << 20
_CACHE_BYTES = 1 << 20  # a piece that stays in a core's cache between two passes


def in_threads(
    work: Callable[[Any], Any], items: Sequence[Any], after: Callable[[Any], None] | None = None
) -> list[Any]:
    """`work` of every item, in as many threads as torch uses (NumPy's heavy calls let the others run); then `after`."""
    results = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for item, result in zip(items, pool.map(work, items), strict=True):
            results.append(result)
            if after is not None:
                after(item)
    return results


class Progress:
    """Counts finished work and tells a callback.

    Args:
        callback: called as `callback(done, total)`; None says nothing.
        total: units of the whole job.
    """

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self.callback, self.total, self.done = callback, total, 0

    def add(self, units: int) -> None:
        """Report `units` more as done."""
        self.done += units
        if self.callback is not None:
            self.callback(self.done, self.total)


def block_tensor(part: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A block of a tensor, array or memory map as a contiguous tensor, copied only where it must be."""
    if not isinstance(part, torch.Tensor):
        part = np.ascontiguousarray(part, dtype=np.float64 if dtype == torch.float64 else np.float32)
        part = torch.from_numpy(part if part.flags.writeable else part.copy())
    return part.to(device=device, dtype=dtype).contiguous()


class Features:
    """A checked feature matrix, read in blocks; a memory-mapped array is never copied whole.

    float64 features are compared in float64; float16, bfloat16 and float32 in float32.

    Args:
        values: (N, D) float tensor, NumPy array or memory map (or what `np.asarray` makes one of), N and D at least 1.
        name: what error messages call it.
        device: where blocks are wanted; None keeps a tensor's own device, the CPU for arrays.
    Raises: EvaluationError: not two-dimensional, empty, or not of a floating-point type.
    """

    def __init__(self, values: Any, name: str, device: torch.device | str | None = None) -> None:
        self.name = name
        self.values = values.detach() if isinstance(values, torch.Tensor) else np.asanyarray(values)
        self._check()
        self.count, self.dim = int(self.values.shape[0]), int(self.values.shape[1])
        self.dtype = torch.float64 if str(self.values.dtype).endswith(("float64", "float128")) else torch.float32
        own = self.values.device if isinstance(self.values, torch.Tensor) else torch.device("cpu")
        self.device = own if device is None else torch.device(device)

    def _check(self) -> None:
        kind, shape = str(self.values.dtype), tuple(self.values.shape)
        if len(shape) != 2:
            raise EvaluationError(f"{self.name}: shape {shape}; give a matrix (images, dimensions), one row an image")
        if 0 in shape:
            raise EvaluationError(f"{self.name}: shape {shape} is empty; give at least one image and one dimension")
        if "float" not in kind:
            raise EvaluationError(f"{self.name}: type {kind}; convert the features to float32 (or float16, float64)")

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows start..stop as a (stop − start, D) tensor on the device, without a copy where none is needed."""
        return block_tensor(self.values[start:stop], self.dtype, self.device)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """The rows of `index` (n,) as an (n, D) tensor on the device."""
        own = index.to(self.values.device) if isinstance(self.values, torch.Tensor) else index.cpu().numpy()
        return block_tensor(self.values[own], self.dtype, self.device)

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, rows) over the whole matrix."""
        step = max(1, _CHUNK_BYTES // (8 * self.dim))
        for start in range(0, self.count, step):
            yield start, self.rows(start, min(start + step, self.count))


def check_dimensions(query: Features, gallery: Features) -> None:
    """Refuse features of different length."""
    if query.dim != gallery.dim:
        sizes = f"{query.name} has {query.dim} dimensions, {gallery.name} {gallery.dim}"
        raise EvaluationError(f"{sizes}; use the same model for both")


def _squared_norms(features: Features) -> tuple[torch.Tensor, np.ndarray]:
    """Squared norms (N,), and on the CPU a sum of each row's bits (N,); refuses NaN, infinity and what overflows."""
    norms, sums = [], [np.empty(0, np.int32)]
    limit = torch.finfo(features.dtype).max / 8
    for start, rows in features.chunks():
        norm = (rows * rows).sum(dim=1)
        bad = ~(norm <= limit)
        if bad.any():
            row = int(bad.nonzero()[0])
            what = "is too long to square" if torch.isfinite(rows[row]).all() else "holds NaN or infinity"
            raise EvaluationError(
                f"{features.name}: row {start + row} {what}; look at the image and the model behind that row, "
                "or normalise the features"
            )
        norms.append(norm)
        if rows.device.type == "cpu":
            sums.append(_bits(rows).sum(axis=1, dtype=np.int32))
    return torch.cat(norms), np.concatenate(sums)


def _bits(rows: torch.Tensor) -> np.ndarray:
    """Rows as integers, equal just where the numbers are: −0 counts as 0."""
    return (rows + 0.0).numpy().view(np.int32)


def _duplicates(features: Features, sums: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows equal to an earlier row, and the first row each equals: two (n,) int64 tensors."""
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    candidates = torch.from_numpy(np.flatnonzero(counts[inverse] > 1))
    step = max(1, _CHUNK_BYTES // (16 * features.dim))
    width = _bits(features.rows(0, 1)).shape[1]
    weights = np.random.default_rng(0).integers(-(2**62), 2**62, width)
    keys = [(_bits(features.take(part)) * weights).sum(axis=1) for part in candidates.split(step)]
    _, first, group = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    origin = candidates[torch.from_numpy(first[group])]
    later = origin < candidates
    copies, origins = candidates[later], origin[later]
    pairs = zip(copies.split(step), origins.split(step), strict=True)
    same = torch.cat([(features.take(a) == features.take(b)).all(dim=1) for a, b in pairs])
    return copies[same], origins[same]


class PairwiseDistances:
    """Rows of the distance matrix, on demand.

    `euclidean` gives squared Euclidean distances (the same order without the rounding of a square root), computed as
    |q|² + |g|² − 2 q·g and never below 0; `cosine` gives 1 − cos, and 1 where a row is all zeros.

    Args:
        query: (Nq, D) features.
        gallery: (Ng, D) features; None compares the query set with itself.
        metric: one of METRICS.
    Raises: EvaluationError: different D, NaN or infinite rows, unknown metric.
    """

    def __init__(self, query: Features, gallery: Features | None = None, metric: str = "euclidean") -> None:
        gallery = query if gallery is None else gallery
        if metric not in METRICS:
            raise EvaluationError(f"metric {metric!r} is not known; choose one of {', '.join(METRICS)}")
        check_dimensions(query, gallery)
        query.dtype = gallery.dtype = self.dtype = torch.promote_types(query.dtype, gallery.dtype)
        self.query, self.gallery, self.metric = query, gallery, metric
        self.device = query.device
        self.shape = (query.count, gallery.count)
        self.row_bytes = gallery.count * (8 if self.dtype == torch.float64 else 4)
        self.block_bytes = _BLOCK_BYTES.get(self.device.type, _BLOCK_BYTES["cpu"])
        self.tile = self._tile()
        self.storage = torch.empty(0)
        self.gallery_norms, sums = _squared_norms(gallery)
        self.query_norms = self.gallery_norms if query is gallery else _squared_norms(query)[0]
        self.copies, self.origins = _duplicates(gallery, sums) if len(sums) else (torch.empty(0), torch.empty(0))

    def _tile(self) -> tuple[int, int]:
        """Query and gallery rows of every matrix product: a matter of the problem, not of how it is cut into blocks."""
        rows, columns = _TILE_SIDES.get(self.device.type, _TILE_SIDES["cpu"])
        if rows * self.row_bytes > 2 * self.block_bytes:
            rows = _FEW_ROWS
        return _even_share(self.shape[0], rows), _even_share(self.shape[1], columns)

    def block_rows(self) -> int:
        """Query rows of a block of the usual size: a multiple of the tile, so that a block starts where a tile does."""
        return max(1, self.block_bytes // (self.row_bytes * self.tile[0])) * self.tile[0]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Distances of queries start..stop to the whole gallery.

        Args:
            start, stop: query rows; start a multiple of `tile[0]`.
        Returns: (stop − start, Ng) tensor, the caller's to change, that the next call overwrites.
        """
        tall, wide = self.tile
        query = self.query.rows(start, stop)
        tiles = _padded(query * -2 if self.metric == "euclidean" else query, tall).split(tall)
        if len(self.storage) < tall * len(tiles):
            shape = (tall * len(tiles), -(-self.shape[1] // wide) * wide)
            self.storage = torch.empty(shape, dtype=self.dtype, device=self.device)
        for left in range(0, self.shape[1], wide):
            columns = _padded(self.gallery.rows(left, min(left + wide, self.shape[1])), wide).T  # (D, wide)
            for number, tile in enumerate(tiles):
                top = number * tall
                torch.mm(tile, columns, out=self.storage[top : top + tall, left : left + wide])
        block = self.storage[: stop - start, : self.shape[1]]
        self._finish(block, self.query_norms[start:stop])
        if len(self.copies):
            block[:, self.copies] = block[:, self.origins]
        return block

    def _finish(self, block: torch.Tensor, query_norms: torch.Tensor) -> None:
        """Turn the products (n, Ng) of a block, with −2 in them for Euclidean, into distances."""
        gallery = self.gallery_norms
        if self.metric == "cosine":
            query_norms, gallery = _inverse_root(query_norms), _inverse_root(gallery)
        if self.device.type != "cpu":
            self._finish_part(block, query_norms[:, None], gallery)
            return
        values, scales, images = block.numpy(), query_norms[:, None].numpy(), gallery.numpy()
        step = max(1, _CACHE_BYTES // (values.itemsize * self.shape[1]))
        parts = [slice(top, top + step) for top in range(0, len(block), step)]
        in_threads(lambda part: self._finish_part(values[part], scales[part], images), parts)

    def _finish_part(self, part: Any, query: Any, gallery: Any) -> None:
        """In place, on (n, Ng) products, (n, 1) and (Ng,): tensors or arrays."""
        if self.metric == "euclidean":
            part += gallery
            part += query
        else:
            part *= gallery
            part *= query
            part *= -1
            part += 1
        if isinstance(part, torch.Tensor):
            part.clamp_(min=0)
        else:
            np.maximum(part, 0, out=part)


def _even_share(count: int, most: int) -> int:
    """Cut `count` into parts of equal size, at most `most` (rounded up to 64)."""
    share = -(-count // -(-count // most))
    return -(-share // 64) * 64


def _inverse_root(squares: torch.Tensor) -> torch.Tensor:
    return torch.where(squares > 0, squares, torch.inf).rsqrt()


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    """Rows (n, D) followed by zeros up to a multiple."""
    missing = -len(rows) % multiple
    if missing == 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])


def _whole(query: Any, gallery: Any, metric: str, device: torch.device | str | None) -> torch.Tensor:
    query, gallery = Features(query, "q_feats", device), Features(gallery, "g_feats", device)
    distances = PairwiseDistances(query, Features(gallery.values, "g_feats", query.device), metric)
    return distances.rows(0, query.count).contiguous()


def squared_euclidean(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Squared Euclidean distances, whole: (Nq, D) and (Ng, D) float features to (Nq, Ng), float32 or float64."""
    return _whole(q_feats, g_feats, "euclidean", device)


def euclidean(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Euclidean distances, whole: the square root of `squared_euclidean`."""
    return squared_euclidean(q_feats, g_feats, device).sqrt_()


def cosine(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Cosine distances 1 − cos in [0, 2], whole: (Nq, D) and (Ng, D) float features to (Nq, Ng)."""
    return _whole(q_feats, g_feats, "cosine", device)


def smallest(block: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest entries of each row in stable order: equal entries in the order of their columns.

    Args:
        block: (n, N) distances.
        k: how many, at most N.
    Returns: values (n, k) ascending and their columns (n, k) int64.
    """
    values, columns = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False)
    crowded = (values[:, k - 1 : k] == values[:, k:]).any(dim=1).nonzero()[:, 0]
    columns = columns[:, :k].contiguous()
    for row in crowded.tolist():  # equal entries across the border: the first columns win
        inside = (block[row] <= values[row, k]).nonzero()[:, 0]
        columns[row] = inside[block[row, inside].sort(stable=True).indices[:k]]
    columns = columns.sort(dim=1).values
    values, order = block.gather(1, columns).sort(dim=1, stable=True)
    return values, columns.gather(1, order)
