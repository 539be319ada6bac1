"""The rank of every match in its query's gallery.

Only the ranks of the matches are needed, a few of many thousand. So each row of distances is sorted as plain numbers,
and the matches are looked up in it; that is much faster than an argsort of the gallery.
"""

from __future__ import annotations

import numpy as np
import torch

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import in_threads
from svllreid.evaluation.ranking.matches import Matches

_NAN = "distmat: row {} holds NaN; look at the features or the model behind it"
_SCRATCH_BYTES = 32 << 20
_SORTED_NUMBERS = 1 << 26  # sorted at once on a GPU, which needs 16 bytes for each


class MatchRanks:
    """Reads blocks of distance rows and collects the rank of every match, with junk left out of the rankings.

    Args:
        matches: which gallery images match which queries, and which of them are junk.
    """

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        self._queries: list[np.ndarray] = []
        self._ranks: list[np.ndarray] = []
        self._buffer = np.empty((0, matches.shape[1]), np.float32)

    def read(self, first: int, block: torch.Tensor) -> None:
        """Read the distances (n, Ng) of the queries from `first` on.

        A block on a GPU is changed while it is read and then restored.

        Raises: EvaluationError: a distance is NaN.
        """
        width = self.matches.shape[1]
        on_gpu = block.device.type == "cuda"
        step = max(1, _SORTED_NUMBERS // width) if on_gpu else _scratch_rows(width)
        if not on_gpu:
            block = block.cpu()
            if self._buffer.dtype != block.numpy().dtype or len(self._buffer) < min(step, len(block)):
                self._buffer = np.empty((min(step, len(block)), width), block.numpy().dtype)
        for part in block.split(step):
            rows, columns, junk = self.matches.pairs(first, first + len(part))
            if on_gpu:
                ranks = _ranks_on_gpu(part, rows, columns, junk, first)
            else:
                ranks = _match_ranks(part.numpy(), rows, columns, junk, self._buffer[: len(part)], first)
            self._ranks.append(ranks)
            self._queries.append(rows[~junk] + first)
            first += len(part)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The query of each match (M,), ascending, and the rank of the match (M,), counted from 1."""
        none = np.empty(0, np.int64)
        return np.concatenate([none, *self._queries]), np.concatenate([none, *self._ranks])


def _scratch_rows(width: int) -> int:
    return max(2 * torch.get_num_threads(), _SCRATCH_BYTES // (4 * width))


def _match_ranks(
    block: np.ndarray, rows: np.ndarray, columns: np.ndarray, junk: np.ndarray, buffer: np.ndarray, first: int
) -> np.ndarray:
    """The ranks, counted from 1, of the matches of a block of distance rows.

    Args:
        block: (n, Ng) distances; they are not changed.
        rows, columns, junk: (P,) the pairs of equal identity, see `Matches.pairs`.
        buffer: (n, Ng) memory to sort in.
        first: the query of the first row, for messages.
    Returns: (M,) int64, in the order of the pairs that are not junk.
    """
    line, column = rows[~junk], columns[~junk]
    wanted = block[line, column]
    before = _sort_and_look_up(block, rows[junk], columns[junk], line, wanted, buffer)
    broken = np.flatnonzero(np.isnan(buffer[:, -1]))  # NaN comes last
    if len(broken):
        raise EvaluationError(_NAN.format(first + broken[0]))
    following = np.minimum(before + 1, block.shape[1] - 1)
    tied = (buffer[line, following] == wanted) & (before < following)
    for row in np.unique(line[tied]):
        chosen = tied & (line == row)
        values = block[row].copy()
        values[columns[junk & (rows == row)]] = np.nan
        before[chosen] += _tied_before(values, column[chosen])
    return before + 1


def _sort_and_look_up(
    block: np.ndarray,
    junk_rows: np.ndarray,
    junk_columns: np.ndarray,
    line: np.ndarray,
    wanted: np.ndarray,
    buffer: np.ndarray,
) -> np.ndarray:
    """Sort the rows of `block` (n, Ng) into `buffer`, junk at the end, and look up the matches.

    Each thread copies some rows, makes the junk infinite, sorts with NumPy's vector sort and looks up.

    Args:
        junk_rows, junk_columns: the places of the junk in the block.
        line, wanted: (M,) row and distance of each match.
    Returns: (M,) how many entries of row line[i] are smaller than wanted[i].
    """
    before = np.zeros(len(line), np.int64)
    share = -(-len(block) // (4 * torch.get_num_threads()))
    edges, junk_edges = (np.searchsorted(part, np.arange(len(block) + 1)) for part in (line, junk_rows))

    def work(top: int) -> None:
        bottom = min(top + share, len(block))
        part, inside = buffer[top:bottom], slice(junk_edges[top], junk_edges[bottom])
        np.copyto(part, block[top:bottom])
        part[junk_rows[inside] - top, junk_columns[inside]] = np.inf
        part.sort(axis=1)
        for row in range(top, bottom):
            matches = slice(edges[row], edges[row + 1])
            before[matches] = buffer[row].searchsorted(wanted[matches])

    in_threads(work, range(0, len(block), share))
    return before


def _tied_before(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """For each of `columns`, how many earlier entries of `values` (Ng,) equal the entry there; NaN equals nothing."""
    tied = np.flatnonzero(np.isin(values, values[columns]))
    tied = tied[np.argsort(values[tied], kind="stable")]
    place = np.empty(len(values), dtype=np.int64)
    place[tied] = np.arange(len(tied))
    return place[columns] - np.searchsorted(values[tied], values[columns])


def _ranks_on_gpu(
    block: torch.Tensor, rows: np.ndarray, columns: np.ndarray, junk: np.ndarray, first: int
) -> np.ndarray:
    """The same as `_match_ranks` for a block on a GPU, which sorts and looks up all rows at once."""
    line, column, junk_line, junk_column = (
        torch.from_numpy(values[chosen]).to(block.device) for chosen in (~junk, junk) for values in (rows, columns)
    )
    wanted, hidden = block[line, column], block[junk_line, junk_column]
    try:
        block[junk_line, junk_column] = torch.inf
        ordered = block.sort(dim=1).values
        broken = ordered[:, -1].isnan().nonzero()  # NaN comes last
        if len(broken):
            raise EvaluationError(_NAN.format(first + int(broken[0])))
        before, up_to = (_look_up(ordered, line, wanted, right=right) for right in (False, True))
        del ordered
        tied = (up_to - before > 1).nonzero()[:, 0]
        block[junk_line, junk_column] = torch.nan  # equals nothing
        places = torch.arange(block.shape[1], device=block.device)
        for part in tied.split(max(1, _SORTED_NUMBERS // block.shape[1])):
            earlier = (block[line[part]] == wanted[part, None]) & (places < column[part, None])
            before[part] += earlier.sum(dim=1)
    finally:
        block[junk_line, junk_column] = hidden
    return (before + 1).cpu().numpy()


def _look_up(ordered: torch.Tensor, line: torch.Tensor, wanted: torch.Tensor, *, right: bool) -> torch.Tensor:
    """For each i, how many entries of row line[i] of `ordered` are smaller than wanted[i], or equal to it with `right`.

    Args:
        ordered: (n, Ng) distances, each row ascending.
        line: (M,) rows, ascending.
        wanted: (M,) distances.
    """
    counts = torch.bincount(line, minlength=len(ordered))
    ordinal = torch.arange(len(line), device=line.device) - (counts.cumsum(0) - counts)[line]
    values = ordered.new_full((len(ordered), max(1, int(counts.max()))), torch.inf)  # one row a query, padded
    values[line, ordinal] = wanted
    return torch.searchsorted(ordered, values, right=right)[line, ordinal]
