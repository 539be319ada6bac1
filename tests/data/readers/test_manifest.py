import sys

import pytest

from svllreid.data.readers import read
from svllreid.data.readers.manifest import read_manifest
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Sample

IMAGES = ["images/t1.jpg", "images/t2.jpg", "images/q.jpg", "images/g.jpg"]
VIEWED = "path,pid,camid,split,viewid"
ROWS = ["images/t2.jpg,8,1,train", "images/t1.jpg,8,0,train", "images/q.jpg,9,0,query", "images/g.jpg,9,1,gallery"]


@pytest.fixture
def manifest(tmp_path, touch):
    """Writes a manifest beside the four images and gives its path."""
    touch(tmp_path, IMAGES)

    def write(rows=ROWS, head="path,pid,camid,split", newline="\n", encoding="utf-8"):
        file = tmp_path / "list.csv"
        file.write_bytes((newline.join([head, *rows]) + newline).encode(encoding))
        return file

    return write


def test_reads_rows_sorted_by_path(manifest, tmp_path):
    splits = read_manifest(manifest())
    assert splits.train == (
        Sample(tmp_path / "images/t1.jpg", 8, 0),
        Sample(tmp_path / "images/t2.jpg", 8, 1),
    )
    assert splits.query == (Sample(tmp_path / "images/q.jpg", 9, 0),)
    assert splits.gallery == (Sample(tmp_path / "images/g.jpg", 9, 1),)
    assert (splits.protocol, splits.noun, splits.notes) == ("cross-camera", "person", ())
    assert read_manifest(manifest(), noun="vehicle").noun == "vehicle"


def test_byte_order_mark_crlf_spaces_blank_lines_and_case_do_not_matter(manifest):
    plain = read_manifest(manifest())
    rows = [f" {row.replace(',', ' , ')} ".replace("train", "Train") for row in ROWS]
    odd = manifest([*rows, "", " , , , "], head="Path, PID ,camid,split", newline="\r\n", encoding="utf-8-sig")
    assert read_manifest(odd) == plain


def test_viewid_and_other_columns(manifest):
    file = manifest(
        [f"{row},{view},x" for row, view in zip(ROWS, ["5", "", "-1", "0"], strict=True)],
        head="path,pid,camid,split,viewid,colour",
    )
    splits = read_manifest(file)
    assert [s.viewid for s in splits.train + splits.query + splits.gallery] == [UNKNOWN, 5, UNKNOWN, 0]


def test_whole_numbers_written_with_a_point(manifest):
    plain = manifest([f"{row},{view}" for row, view in zip(ROWS, "1230", strict=True)], head=VIEWED)
    expected = read_manifest(plain)
    rows = [row.split(",") for row in ROWS]
    floats = [f"{path},{pid},{camid}.0,{split}" for path, pid, camid, split in rows]
    assert read_manifest(manifest([f"{row},{view}.00" for row, view in zip(floats, "1230", strict=True)], VIEWED)) == (
        expected
    )
    unknown = read_manifest(manifest([f"{path},{pid},-1.0,{split}" for path, pid, _, split in rows]))
    assert unknown.protocol == "leave-self-out"
    with pytest.raises(DatasetError, match=r"line 2: camid '1\.5' is not a whole number"):
        read_manifest(manifest([ROWS[0].replace(",1,", ",1.5,")]))


def test_cameras_of_any_size_that_fits_arrays(manifest):
    assert read_manifest(manifest([ROWS[0].replace(",1,", f",{2**63 - 1},")])).train[0].camid == 2**63 - 1
    for large in (str(2**63), "9" * 5000):
        with pytest.raises(DatasetError, match=r"line 2: camid '9\d+' is above 9223372036854775807"):
            read_manifest(manifest([ROWS[0].replace(",1,", f",{large},")]))


def test_names_at_test_leave_training_identities_numbers(manifest):
    splits = read_manifest(manifest([*ROWS[:2], "images/q.jpg,bob,0,query", "images/g.jpg,9,1,gallery"]))
    assert {s.pid for s in splits.train} == {8}
    assert [s.pid for s in splits.query + splits.gallery] == ["bob", "9"], "compared with each other, so of one type"


@pytest.mark.parametrize("head", ["path,pid,split", "path,pid,camid,split"], ids=["no column", "empty column"])
def test_cameras_unknown(manifest, head):
    gap = "," if "camid" in head else ""
    rows = [f"{path},{pid},{gap}{split}" for path, pid, _, split in (row.split(",") for row in ROWS)]
    splits = read_manifest(manifest(rows, head=head))
    assert splits.protocol == "leave-self-out"
    assert {sample.camid for sample in splits.train + splits.query + splits.gallery} == {UNKNOWN}


def test_cameras_in_some_rows_only_is_an_error(manifest):
    with pytest.raises(DatasetError, match=r"1 of 4 rows of .*list\.csv have no camid: line 3\."):
        read_manifest(manifest([ROWS[0], "images/t1.jpg,8,,train", *ROWS[2:]]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("images/q.jpg,9,0,galery", r"line 3: split 'galery' is unknown \(did you mean gallery\?\)"),
        ("images/q.jpg,9,0,val", r"line 3: split 'val' is unknown \(one of train, query, gallery\)"),
        ("images/q.jpg,9,one,query", r"line 3: camid 'one' is not a whole number"),
        ("images/q.jpg,9,-2,query", r"line 3: camid '-2' is not a whole number"),
        ("images/q.jpg,,0,query", r"line 3: pid is empty"),
        (",9,0,query", r"line 3: path is empty"),
        ("images/q.jpg,9,0", r"line 3: split is empty"),
        ("images/q.jpg,9,0,query,1", r"line 3: 5 fields, more than there are columns"),
    ],
)
def test_bad_row_names_line_and_value(manifest, row, message):
    with pytest.raises(DatasetError, match=r"list\.csv has 1 bad rows: " + message):
        read_manifest(manifest([ROWS[0], row]))


def test_bad_rows_are_counted_and_three_shown(manifest):
    with pytest.raises(DatasetError, match=r"5 bad rows: line 2: .*line 4: .*; and 2 more"):
        read_manifest(manifest(["a.jpg,1,0,x"] * 5))


def test_missing_columns_are_listed(manifest):
    with pytest.raises(DatasetError, match=r"lacks the columns pid, split; it has path, id, camid, set"):
        read_manifest(manifest(head="path,id,camid,set"))


@pytest.mark.parametrize("head", ["path,pid,camid,split,pid", "path,pid,camid,split, PID "])
def test_a_column_twice_is_an_error(manifest, head):
    with pytest.raises(DatasetError, match=r"list\.csv has several columns called pid"):
        read_manifest(manifest([f"{row},7" for row in ROWS], head=head))


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 5000, "nul\0.jpg", "loop"])
def test_what_no_file_can_be_called_is_an_absent_image(manifest, tmp_path, path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DatasetError, match=r"1 of the 5 images that .* names are absent"):
        read_manifest(manifest([*ROWS, f"{path},1,0,train"]))


def test_a_table_of_endless_faults_is_not_read_to_its_end(manifest):
    with pytest.raises(DatasetError, match="has 1000 rows that repeat or contradict another"):
        read_manifest(manifest([ROWS[0]] * 3000))
    with pytest.raises(DatasetError, match=r"has 1000 bad rows: line 2: path has 40000 characters \(at most 32767\)"):
        read_manifest(manifest([f"{'x' * 40_000},1,0,train"] * 1500))


def test_file_without_rows_is_an_error(manifest):
    with pytest.raises(DatasetError, match=r"holds no image"):
        read_manifest(manifest([]))


def test_empty_file_is_an_error(tmp_path):
    (tmp_path / "list.csv").touch()
    with pytest.raises(DatasetError, match=r"lacks the columns path, pid, split; it has none"):
        read_manifest(tmp_path / "list.csv")


def test_absent_images_are_counted_and_shown(manifest):
    rows = ROWS + [f"images/lost{k}.jpg,1,0,train" for k in range(4)]
    with pytest.raises(
        DatasetError, match=r"4 of the 8 images that .*list\.csv names are absent: .*lost2\.jpg, \.\.\."
    ):
        read_manifest(manifest(rows))


def test_image_twice_in_a_split_is_an_error(manifest):
    with pytest.raises(DatasetError, match=r"line 6 repeats line 4 \(q\.jpg in query\)"):
        read_manifest(manifest([*ROWS, "./images/../images/q.jpg,9,0,query"]))


def test_image_may_be_query_and_gallery_under_one_pid(manifest):
    assert len(read_manifest(manifest([*ROWS, "images/q.jpg,9,0,gallery"])).gallery) == 2
    with pytest.raises(DatasetError, match=r"line 4 and line 6 give q\.jpg the pids 9 and 7"):
        read_manifest(manifest([*ROWS, "images/q.jpg,7,0,gallery"]))


def test_image_in_train_and_test_is_noted(manifest):
    splits = read_manifest(manifest([*ROWS, "images/t1.jpg,8,0,gallery"]))
    assert splits.notes == ("1 images are both in train and in query or gallery: scores on them flatter the model",)


def test_gallery_without_query_is_an_error(manifest):
    with pytest.raises(DatasetError, match=r"gallery images but no query images"):
        read_manifest(manifest([*ROWS[:2], ROWS[3]]))


def test_other_encoding_is_an_error(manifest):
    with pytest.raises(DatasetError, match=r"list\.csv is not UTF-8 text \(byte \d+\)"):
        read_manifest(manifest(["images/é.jpg,1,0,train"], encoding="latin-1"))


def test_folder_missing_file_and_other_formats_are_errors(tmp_path, manifest):
    manifest()
    with pytest.raises(DatasetError, match=r"is a folder; it holds images, list\.csv\. Name the CSV"):
        read_manifest(tmp_path)
    with pytest.raises(DatasetError, match=r"nothing\.csv does not exist"):
        read_manifest(tmp_path / "nothing.csv")
    (tmp_path / "list.xlsx").touch()
    with pytest.raises(DatasetError, match=r"does not end in \.csv"):
        read_manifest(tmp_path / "list.xlsx")


def test_parquet_reads_as_csv_does(tmp_path, manifest):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = list(zip(*(row.split(",") for row in ROWS), strict=True))
    table = pyarrow.table(
        {
            " Path": columns[0],
            "pid": [int(pid) for pid in columns[1]],
            # Columns with gaps come as floats.
            "camid": [float(camid) for camid in columns[2]],
            "SPLIT": columns[3],
            "viewid": [1.0, None, float("nan"), 0.0],
            "colour": ["red"] * 4,
        }
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    csv = manifest(
        [f"{row},{view}" for row, view in zip(ROWS, ["1", "", "", "0"], strict=True)],
        head="path,pid,camid,split,viewid",
    )
    assert read_manifest(tmp_path / "list.parquet") == read_manifest(csv)


def test_values_of_parquet_that_python_has_no_type_for(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    times = pyarrow.array([10**15], pyarrow.timestamp("s"))
    parquet.write_table(pyarrow.table({"path": ["a.jpg"], "pid": times, "split": ["train"]}), tmp_path / "list.parquet")
    with pytest.raises(DatasetError, match=r"list\.parquet cannot be read as Parquet"):
        read_manifest(tmp_path / "list.parquet")


def test_broken_parquet_and_missing_pyarrow_are_errors(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "list.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DatasetError, match=r"list\.parquet cannot be read as Parquet"):
        read_manifest(tmp_path / "list.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DatasetError, match=r"pip install 'svllreid\[parquet\]'"):
        read_manifest(tmp_path / "list.parquet")


@pytest.mark.real
def test_vehicle_pairs(real_data):
    splits = read("manifest", real_data / "vehicle_pairs" / "manifest.csv", noun="vehicle")
    assert [len(samples) for samples in (splits.train, splits.query, splits.gallery)] == [1014, 60, 60]
    assert len({sample.pid for sample in splits.train}) == 507
    assert [s.pid for s in splits.query] == [s.pid for s in splits.gallery]
    assert {s.camid for s in splits.query} == {0} and {s.camid for s in splits.gallery} == {1}
    assert splits.notes == ()


def test_rows_of_train_with_an_empty_pid_are_left_out_and_counted(manifest):
    dropped = manifest([ROWS[0].replace(",8,", ",,"), "images/absent.jpg,,0,train", *ROWS[1:]])
    splits = read_manifest(dropped)
    assert [sample.path.name for sample in splits.train] == ["t1.jpg"]
    assert splits.notes == ("2 rows of train with an empty pid are left out",)
    with pytest.raises(DatasetError, match="line 2: pid is empty"):
        read_manifest(manifest(["images/t2.jpg,,1,", *ROWS]))


def test_a_misspelt_column_is_named(manifest):
    (note,) = (note for note in read_manifest(manifest(head="path,pid,camera,split")).notes if "not read" in note)
    assert note == "columns not read: camera (rename it to camid if that is what it holds)"


def test_identities_that_differ_in_leading_zeros_only_are_noted(manifest):
    splits = read_manifest(manifest([row.replace("q.jpg,9,", "q.jpg,09,") for row in ROWS]))
    assert [splits.query[0].pid, splits.gallery[0].pid] == ["09", "9"]
    assert splits.notes == (
        "query and gallery: identities that differ in leading zeros only, and count as different ones: 1 (09 and 9)",
    )
