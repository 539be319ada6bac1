"""Tables of features in files."""

import dataclasses

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import EvaluationError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.table_file import TableBlock, holds_features, read_features, read_table, write_table

SPEC = EmbeddingSpec("a" * 64, 3, (8, 4), (0.5,) * 3, (0.5,) * 3, "before", False, True, False, False, 0.0, "", "32")


def block(start, stop):
    count = stop - start
    columns = {
        "path": np.array([f"{n}.jpg" for n in range(start, stop)]),
        "pid": np.array(["p"] * count),
        "split": np.array(["query" if n % 2 else "gallery" for n in range(start, stop)]),
        "camid": np.arange(start, stop) % 3 - 1,
        "viewid": np.full(count, -1),
        "time": np.array([np.nan, *range(count - 1)], float),
    }
    return TableBlock(columns, np.arange(3 * start, 3 * stop, dtype=np.float32).reshape(count, 3))


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "t.parquet"
    assert write_table(path, iter([block(0, 4), block(4, 6)]), SPEC) == 6
    table, spec = read_table(path)
    assert spec == SPEC and table.vectors.tolist() == block(0, 6).vectors.tolist()
    assert table.columns["path"].tolist() == [f"{n}.jpg" for n in range(6)]
    assert table.columns["camid"].tolist() == [-1, 0, 1, -1, 0, 1]
    assert np.array_equal(table.columns["time"], [np.nan, 0, 1, 2, np.nan, 0], equal_nan=True)
    features = FeatureSet.load(path)
    assert features.protocol == "leave-self-out" and features.spec == SPEC
    assert [sample.path.name for sample in features.query] == ["1.jpg", "3.jpg", "5.jpg"]


def test_a_failing_write_leaves_the_older_file(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, [block(0, 2)], SPEC)

    def failing():
        yield block(0, 2)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_table(path, failing(), SPEC)
    assert len(read_table(path)[0].vectors) == 2 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table" * 100])
def test_damaged_files_are_one_message(tmp_path, content):
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(EvaluationError, match=r"t\.parquet is not a readable table of features"):
        FeatureSet.load(tmp_path / "t.parquet")


def test_a_table_that_unfolds_to_endless_vectors_is_refused(tmp_path, monkeypatch):
    write_table(tmp_path / "t.parquet", [block(0, 4)], SPEC)
    monkeypatch.setattr("svllreid.evaluation.table_file._UNFOLDED_BYTES", -(10**6))
    with pytest.raises(EvaluationError, match="would unfold to"):
        read_table(tmp_path / "t.parquet")


def test_splits_and_pids_are_needed_to_rank(tmp_path):
    lacking = block(0, 2)
    write_table(
        tmp_path / "a.npz",
        [dataclasses.replace(lacking, columns={**lacking.columns, "split": np.array(["", ""])})],
        SPEC,
    )
    with pytest.raises(EvaluationError, match="no row of the split query"):
        FeatureSet.load(tmp_path / "a.npz")
    write_table(
        tmp_path / "b.npz",
        [dataclasses.replace(lacking, columns={**lacking.columns, "pid": np.array(["", "p"])})],
        SPEC,
    )
    with pytest.raises(EvaluationError, match="some without pid"):
        FeatureSet.load(tmp_path / "b.npz")


def test_other_names_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(EvaluationError, match=r"written as \.parquet or \.npz"):
        write_table(tmp_path / "t.csv", [block(0, 2)], SPEC)


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_tracklets_and_columns_that_are_left_out(tmp_path, name):
    vectors = np.ones((2, 3), np.float32)
    write_table(
        tmp_path / name, [TableBlock({"path": np.array(["a", "b"]), "tracklet": np.array(["7", ""])}, vectors)], SPEC
    )
    table, spec = read_features(tmp_path / name)
    assert spec == SPEC and holds_features(tmp_path / name)
    assert table.columns["tracklet"].tolist() == ["7", ""] and table.columns["pid"].tolist() == ["", ""]
    assert table.columns["camid"].tolist() == [-1, -1] and np.isnan(table.columns["time"]).all()


def test_files_without_tracklets_are_read(tmp_path):
    old = {"path": np.array(["a"]), "pid": np.array(["p"]), "split": np.array([""]), "time": np.array([np.nan])}
    np.savez(tmp_path / "old.npz", vectors=np.ones((1, 3), np.float32), **old)
    assert read_features(tmp_path / "old.npz")[0].columns["tracklet"].tolist() == [""]
    table = pyarrow.table({"path": ["a"], "vector": pyarrow.array([[1.0, 2.0]], pyarrow.list_(pyarrow.float32(), 2))})
    pyarrow.parquet.write_table(table, tmp_path / "old.parquet")
    assert read_features(tmp_path / "old.parquet")[0].columns["tracklet"].tolist() == [""]


def test_identities_may_be_numbers(tmp_path):
    vectors = pyarrow.array([[1.0, 2.0]] * 3, pyarrow.list_(pyarrow.float32(), 2))
    table = pyarrow.table({"path": ["a", "b", "c"], "pid": pyarrow.array([0, 7, None]), "vector": vectors})
    pyarrow.parquet.write_table(table, tmp_path / "numbers.parquet")
    assert read_features(tmp_path / "numbers.parquet")[0].columns["pid"].tolist() == ["0", "7", ""]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("camid", [0.5], r"camid 0\.5 is no whole number"),
        ("camid", ["1"], r"camid '1' is no whole number"),
        ("pid", [1.5], r"pid 1\.5 is no text"),
        ("tags", [["a", "b"]], r"tags \['a', 'b'\] is no text"),
    ],
)
def test_columns_of_other_types_are_refused(tmp_path, column, values, message):
    vectors = pyarrow.array([[1.0, 2.0]], pyarrow.list_(pyarrow.float32(), 2))
    table = pyarrow.table({"path": ["a"], column: values, "vector": vectors})
    pyarrow.parquet.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(EvaluationError, match=message):
        read_features(tmp_path / "other.parquet")


def test_names_that_are_not_unicode_go_into_npz_only(tmp_path):
    rows = TableBlock({"path": np.array(["\udcff.png"])}, np.ones((1, SPEC.dim), np.float32))
    with pytest.raises(
        EvaluationError, match=r"'\\udcff\.png' is not Unicode, as Parquet needs it; rename it, or name an"
    ):
        write_table(tmp_path / "t.parquet", [rows], SPEC)
    assert write_table(tmp_path / "t.npz", [rows], SPEC) == 1
    assert read_features(tmp_path / "t.npz")[0].columns["path"].tolist() == ["\udcff.png"]


def test_tables_of_images_hold_no_features(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"]}), tmp_path / "images.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    for name in ("images.parquet", "damaged.parquet", "absent.parquet", "images.csv"):
        assert not holds_features(tmp_path / name)
