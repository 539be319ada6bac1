"""Feature matrices: they are checked, read in blocks, and searched for equal rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from svllreid.errors import DeviceError, EvaluationError

_CHUNK_BYTES = 16 << 20


def matrix_of(values: Any, name: str) -> torch.Tensor | np.ndarray:
    """A matrix that a user gave, as a tensor without gradient or as an array.

    Args:
        values: a tensor, an array, a memory map, or anything else that `np.asarray` accepts.
        name: what the error message calls it.
    Raises: EvaluationError: rows of different lengths.
    """
    if isinstance(values, torch.Tensor):
        return values.detach()
    try:
        return np.asanyarray(values)
    except ValueError as error:
        raise EvaluationError(f"{name}: {error}; give a matrix, whose rows all have the same length") from None


def type_name(values: torch.Tensor | np.ndarray) -> str:
    """The type of a matrix's numbers, such as `float32`, whatever their order of bytes."""
    return str(values.dtype) if isinstance(values, torch.Tensor) else values.dtype.name


def block_tensor(part: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A block of a tensor, array or memory map as a contiguous tensor, copied only where that is necessary."""
    shape = tuple(part.shape)
    if not isinstance(part, torch.Tensor):
        part = np.ascontiguousarray(part, dtype=np.float64 if dtype == torch.float64 else np.float32)
        part = part.reshape(-1)  # a single row or column has any stride, also a negative one, and counts as contiguous
        part = torch.from_numpy(part if part.flags.writeable else part.copy())
    return part.to(device=device, dtype=dtype).contiguous().view(-1).view(shape)


def device_of(device: torch.device | str) -> torch.device:
    """The device that a user named.

    Raises: DeviceError: there is no such device on this machine.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device {device!r} is not known ({error}); choose cpu or cuda") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {found}: PyTorch sees {torch.cuda.device_count()} CUDA devices here; choose cpu")
    return found


class Features:
    """A checked feature matrix that is read in blocks, so that a memory-mapped array never has to fit into memory.

    float64 features are compared in float64; float16, bfloat16 and float32 in float32.

    Args:
        values: (N, D) float tensor, NumPy array or memory map, or anything else that `np.asarray` accepts; N and D at
            least 1.
        name: what error messages call it.
        device: the device of the blocks; None keeps the device of a tensor, and the CPU for arrays. A matrix that takes
            at most half of a GPU's free memory is moved there as a whole.
    Raises:
        EvaluationError: the matrix is not two-dimensional, is empty, or is not of a float type.
        DeviceError: there is no such device.
    """

    def __init__(self, values: Any, name: str, device: torch.device | str | None = None) -> None:
        self.name = name
        self.values = matrix_of(values, name)
        self._check()
        self.count, self.dim = int(self.values.shape[0]), int(self.values.shape[1])
        self.dtype = torch.float64 if type_name(self.values).endswith(("float64", "float128")) else torch.float32
        values_device = self.values.device if isinstance(self.values, torch.Tensor) else torch.device("cpu")
        self.device = values_device if device is None else device_of(device)
        elsewhere = self.device.type == "cuda" and values_device.type != "cuda"
        movable = elsewhere and not isinstance(self.values, np.memmap)
        size = self.count * self.dim * self.dtype.itemsize
        if movable and size <= torch.cuda.mem_get_info(self.device)[0] // 2:
            self.values = block_tensor(self.values, self.dtype, self.device)

    def _check(self) -> None:
        kind, shape = type_name(self.values), tuple(self.values.shape)
        if len(shape) != 2:
            raise EvaluationError(f"{self.name}: shape {shape}; give a matrix (images, dimensions), one row an image")
        if 0 in shape:
            raise EvaluationError(f"{self.name}: shape {shape} is empty; give at least one image and one dimension")
        if "float" not in kind:
            raise EvaluationError(f"{self.name}: type {kind}; convert the features to float32 (or float16, float64)")

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows start..stop as a (stop − start, D) tensor on the device, copied only where that is necessary."""
        return block_tensor(self.values[start:stop], self.dtype, self.device)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """The rows of `index` (n,) as an (n, D) tensor on the device."""
        rows = index.to(self.values.device) if isinstance(self.values, torch.Tensor) else index.cpu().numpy()
        return block_tensor(self.values[rows], self.dtype, self.device)

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Pairs of first row and rows (n, D) that together make up the whole matrix."""
        step = max(1, _CHUNK_BYTES // (8 * self.dim))
        for start in range(0, self.count, step):
            yield start, self.rows(start, min(start + step, self.count))


def check_dimensions(query: Features, gallery: Features) -> None:
    """Check that both sets have the same dimension; EvaluationError if not."""
    if query.dim != gallery.dim:
        sizes = f"{query.name} has {query.dim} dimensions, {gallery.name} {gallery.dim}"
        raise EvaluationError(f"{sizes}; use the same model for both")


def squared_norms(features: Features) -> tuple[torch.Tensor, np.ndarray]:
    """The squared norm (N,) and a checksum (N,) of each row; rows with equal numbers have equal checksums.

    Raises: EvaluationError: a row holds NaN or infinity, or its squared norm overflows.
    """
    norms, sums = [], []
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
        sums.append(_bits(rows).sum(dim=1, dtype=torch.int32).cpu().numpy())
    return torch.cat(norms), np.concatenate(sums)


def _bits(rows: torch.Tensor) -> torch.Tensor:
    """The bits of the rows as int32; they are equal exactly where the numbers are, since −0 becomes 0."""
    return rows.clone(memory_format=torch.contiguous_format).add_(0.0).view(torch.int32)


def _pieces(features: Features, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The row numbers, split so that the features of each piece take little memory."""
    return rows.split(max(1, _CHUNK_BYTES // (16 * features.dim)))


def _keys(features: Features, rows: torch.Tensor) -> np.ndarray:
    """A hash (n,) int64 of some rows: equal rows have equal hashes, and unequal rows hardly ever do."""
    width = _bits(features.rows(0, 1)).shape[1]
    weights = torch.from_numpy(np.random.default_rng(0).integers(-(2**62), 2**62, width)).to(features.device)
    keys = [(_bits(features.take(part)) * weights).sum(dim=1).cpu().numpy() for part in _pieces(features, rows)]
    return np.concatenate(keys)


def _same(first: Features, rows: torch.Tensor, second: Features, others: torch.Tensor) -> torch.Tensor:
    """Whether row rows[i] of one set equals row others[i] of another, number by number: (n,) bool on the CPU."""
    pairs = zip(_pieces(first, rows), _pieces(second, others), strict=True)
    return torch.cat([(first.take(a) == second.take(b)).all(dim=1).cpu() for a, b in pairs])


def duplicates(features: Features, sums: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows that equal an earlier row, and for each the first row that it equals.

    Args:
        features: the matrix.
        sums: (N,) the checksums from `squared_norms`.
    Returns: two (n,) int64 tensors on the CPU.
    """
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    candidates = torch.from_numpy(np.flatnonzero(counts[inverse] > 1))
    _, first, group = np.unique(_keys(features, candidates), return_index=True, return_inverse=True)
    origin = candidates[torch.from_numpy(first[group])]
    later = origin < candidates
    copies, origins = candidates[later], origin[later]
    same = _same(features, copies, features, origins)
    return copies[same], origins[same]


def equal_rows(
    query: Features, q_sums: np.ndarray, gallery: Features, g_sums: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """The query rows that equal a gallery row, ascending, and for each the first gallery row that it equals.

    Args:
        query, gallery: the matrices.
        q_sums, g_sums: (Nq,) and (Ng,) their checksums from `squared_norms`.
    Returns: two (n,) int64 tensors on the CPU.
    """
    q_rows, g_rows = (
        torch.from_numpy(np.flatnonzero(np.isin(sums, others))) for sums, others in ((q_sums, g_sums), (g_sums, q_sums))
    )
    if len(q_rows) == 0:
        return q_rows, g_rows
    keys, first = np.unique(_keys(gallery, g_rows), return_index=True)
    wanted = _keys(query, q_rows)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    likely = torch.from_numpy(keys[place] == wanted)
    q_rows, g_rows = q_rows[likely], g_rows[torch.from_numpy(first[place])][likely]
    same = _same(query, q_rows, gallery, g_rows)
    return q_rows[same], g_rows[same]
