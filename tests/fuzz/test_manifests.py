"""Tables, lists and file names of datasets in every spelling that users and programs give them."""

import io
import os
import random
import sys

import pyarrow
import pyarrow.parquet
import pytest
from damage import damaged

from svllreid.build import TrainingData
from svllreid.data.readers import read
from svllreid.errors import DatasetError

SIZES = [pytest.param(60, id="few"), pytest.param(2500, marks=pytest.mark.slow, id="many")]
COLUMNS = ("path", "pid", "split", "camid", "viewid")
IMAGES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "sub/e.jpg", "ä 人.jpg", "with, comma.jpg", 'with "quote".jpg')
ODD_PATHS = (
    "", " ", ".", "..", "/", "Gr\udcf6.jpg", "../a.jpg", "../../../../etc/passwd", "/etc/passwd", "/dev/zero",
    "/dev/stdin", "~/a.jpg", "sub\\e.jpg", "sub//./e.jpg", "sub", "loop", "pipe", "a.jpg\0", "x" * 300, "x/" * 3000,
    "y" * 140_000, "nul\0.jpg", "file:///a.jpg", "http://x/a.jpg", "C:\\a.jpg", "\u202ea.jpg", "a.jpg\n", "a.jpg/",
    "A.JPG", "-", "*", "$HOME",
)  # fmt: skip
NUMBERS = (
    "0", "1", "2", "-1", "", "7", "007", "1.0", "0.0", "1e3", "1.5", "nan", "NaN", "inf", "-inf", "None", "null", "１",
    "٣", "²", "0x1F", "1_000", " 1", "+1", "-0", "--1", "9" * 18, "9" * 19, "9" * 400, "9" * 5000, "True", "anna",
    "人", "a b", "a/b", "..", "-2", "1.0.0", "1,0", "Gr\udcf6", "9223372036854775807", "9223372036854775808", "1.0e0",
    "\0",
)  # fmt: skip
SPLITS = ("train", "query", "gallery", "TRAIN", " query", "test", "val", "", "trian", "0", "quer\u0443")
LINE_ENDS = ("\n", "\r\n", "\r", "\n\n", " \n", "\x85", "\u2028", "\0\n")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037", "shift_jis", "utf-7")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with the images that tables name, and some that are no images; not to be changed."""
    folder = tmp_path_factory.mktemp("tables") / "in"
    (folder / "sub").mkdir(parents=True)
    for name in (*IMAGES, "Gr\udcf6.jpg"):
        (folder / name).touch()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


def odd(draw, usual, unusual, share=0.05):
    """A usual value, or now and then an unusual one."""
    return draw.choice(unusual) if draw.random() < share else draw.choice(usual)


def records(draw):
    """Rows of a table, with no more than a few faults each."""
    share = draw.choice((0, 0, 0, 0.02, 0.1))
    cameras = draw.choice((("0", "1"), ("",), ("20240105", "7"), ("0.0", "1.0")))
    found = []
    for name in draw.sample(IMAGES, draw.randrange(len(IMAGES) + 1) if draw.random() < 0.1 else 3):
        for split in draw.choice((("train",), ("query", "gallery"), ("train", "query", "gallery"))):
            row = {
                "path": odd(draw, (name,), ODD_PATHS, share),
                "pid": odd(draw, (str(len(name)),), NUMBERS, share),
                "split": odd(draw, (split,), SPLITS, share),
                "camid": odd(draw, cameras, NUMBERS, share),
                "viewid": odd(draw, ("0", "1"), NUMBERS, share),
            }
            found.append(row)
    return found


def columns(draw):
    """Names of the columns, now and then one missing, twice, unknown or odd."""
    names = list(COLUMNS[: draw.choice((3, 4, 5))])
    if draw.random() < 0.1:
        names.append(draw.choice((*COLUMNS, "notes", "", " ", "PATH", "pid ", "\ufeffpath", "\0", "x" * 200_000)))
    if draw.random() < 0.05:
        names.pop(draw.randrange(len(names)))
    if draw.random() < 0.2:
        draw.shuffle(names)
    return names


def table_text(draw):
    """A CSV: fields quoted or not, more or fewer of them, with other separators and line ends."""
    names, separator = columns(draw), odd(draw, (",",), (";", "\t", "|", ", ", " ,", ",,"), 0.05)
    end = odd(draw, ("\n", "\r\n"), LINE_ENDS, 0.1)
    lines = [separator.join(names)] if draw.random() < 0.95 else []
    for row in records(draw):
        fields = [row.get(name.strip().lower(), "x") for name in names]
        if draw.random() < 0.03:
            fields = fields[: draw.randrange(len(fields) + 1)] + ["more"] * draw.randrange(3)
        lines.append(separator.join(quoted(draw, field) for field in fields))
        if draw.random() < 0.05:
            lines.append(draw.choice(("", " ", ",,,", "# a comment", "\f", '"')))
    return end.join(lines) + draw.choice(("", end))


def quoted(draw, field):
    """A field, in quotes where it needs them, or where it does not, or wrongly."""
    kind = draw.random()
    if kind < 0.02:
        return draw.choice((f'"{field}', f'{field}"', f"'{field}'", f'"{field}"x', f' "{field}"', f'""{field}""'))
    return '"' + field.replace('"', '""') + '"' if kind < 0.1 or set(field) & set(',"\n') else field


def encoded(draw, text):
    """Text in UTF-8 or, now and then, in another encoding."""
    encoding = odd(draw, ("utf-8", "utf-8-sig"), ENCODINGS, 0.05)
    return text.encode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "replace")


def check_splits(splits):
    """Samples are files, with numbers that fit, and can be trained on."""
    samples = (*splits.train, *splits.query, *splits.gallery)
    assert samples and all(sample.path.is_file() for sample in samples)
    assert all(-1 <= number < 2**63 for sample in samples for number in (sample.camid, sample.viewid))
    assert len(set(splits.train)) == len(splits.train)
    assert splits.protocol in ("cross-camera", "leave-self-out", "vehicleid-10")
    if splits.train:
        data = TrainingData.of(splits.train)
        assert sorted(data.labels.values()) == list(range(len({sample.pid for sample in splits.train})))


@pytest.mark.parametrize("count", SIZES)
def test_csv(count, campaign, images):
    file = images / "table.csv"
    with campaign("manifests in CSV", images, memory=200 << 20) as run:
        for number in range(count):
            draw = random.Random(f"csv {number}")
            content = encoded(draw, table_text(draw))
            if number % 4 == 0:
                content = damaged(draw, content, [content, b'"', b"path,pid\n", bytes(40)])
            file.write_bytes(content)
            with run.attempt(f"csv {number}"):
                check_splits(read("manifest", file))
        file.unlink()
    assert run.outcomes["accepted"] > count // 10


def column(draw, values):
    """A Parquet column of texts, or of another type where the texts allow it, or of something else altogether."""
    kind = draw.random()
    if kind < 0.3:
        return pyarrow.array([value.encode("utf-8", "replace").decode() for value in values])
    if kind < 0.6:
        try:
            return pyarrow.array([float(value) if value else None for value in values])
        except (ValueError, OverflowError):
            return pyarrow.array([str(len(value)) for value in values]).dictionary_encode()
    size = len(values)
    return draw.choice(
        (
            lambda: pyarrow.array([number % 2 for number in range(size)], pyarrow.int8()),
            lambda: pyarrow.array([None] * size),
            lambda: pyarrow.array([b"a.jpg"] * size),
            lambda: pyarrow.array([b"\xff\xfe"] * size),
            lambda: pyarrow.array([True] * size),
            lambda: pyarrow.array([[1, 2]] * size),
            lambda: pyarrow.array([{"a": 1}] * size),
            lambda: pyarrow.array([10**15] * size, pyarrow.timestamp("s")),
            lambda: pyarrow.array([2**63] * size, pyarrow.uint64()),
            lambda: pyarrow.array([float("nan"), *[1.0] * (size - 1)] if size else []),
            lambda: pyarrow.array(
                [value.encode("utf-8", "replace").decode() for value in values], pyarrow.large_string()
            ),
        )
    )()


def table_bytes(draw):
    """A Parquet file, of columns that mostly have the types one expects."""
    rows, names = records(draw), columns(draw)
    arrays = []
    for name in names:
        values = [row.get(name.strip().lower(), "x") for row in rows]
        plain = pyarrow.array([value.encode("utf-8", "replace").decode() for value in values], pyarrow.string())
        arrays.append(plain if draw.random() < 0.85 else column(draw, values))
    stream = io.BytesIO()
    table = pyarrow.Table.from_arrays(arrays, names=[name.encode("utf-8", "replace").decode() for name in names])
    pyarrow.parquet.write_table(table, stream, compression=draw.choice(("snappy", "none", "gzip", "zstd")))
    return stream.getvalue()


@pytest.mark.parametrize("count", SIZES)
def test_parquet(count, campaign, images):
    file = images / "table.parquet"
    with campaign("manifests in Parquet", images, memory=200 << 20) as run:
        for number in range(count):
            draw = random.Random(f"parquet {number}")
            content = table_bytes(draw)
            if number % 3 == 0:
                content = damaged(draw, content, [content, b"PAR1", bytes(40)])
            file.write_bytes(content)
            with run.attempt(f"parquet {number}"):
                check_splits(read("manifest", file))
        file.unlink()
    assert run.outcomes["accepted"] > count // 10


LISTS = {
    "VehicleID": [f"VehicleID_V1.0/train_test_split/{name}.txt" for name in ("train_list", "test_list_800")],
    "msmt17": [f"MSMT17/list_{name}.txt" for name in ("train", "val", "query", "gallery")],
    "veri": [f"VeRi/keypoint_{name}.txt" for name in ("train", "test")],
}
MSMT_NAMES = [
    f"{pid:04d}/{pid:04d}_{shot:03d}_{1 + shot:02d}_0303morning_0015_0.jpg" for pid in (0, 1) for shot in (0, 1)
]
VERI_NAMES = [f"{pid:04d}_c00{camera}_00016450_0.jpg" for pid in (1, 2) for camera in (1, 2)]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The images that list files name."""
    root = tmp_path_factory.mktemp("lists")
    files = [f"VehicleID_V1.0/image/{number}.jpg" for number in range(6)]
    files += [f"MSMT17/{part}/{name}" for part in ("train", "test") for name in MSMT_NAMES]
    files += [f"VeRi/image_{part}/{name}" for part in ("train", "query", "test") for name in VERI_NAMES]
    files += [file for names in LISTS.values() for file in names]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def list_text(draw, name):
    """Lines of a list file, with a few faults."""
    lines, share = [], draw.choice((0, 0, 0.05, 0.2))
    for number in range(draw.randrange(1, 8)):
        choices = {"VehicleID": "012345", "msmt17": MSMT_NAMES, "veri": [f"image/{file}" for file in VERI_NAMES]}[name]
        image = choices[number % len(choices)]
        image = odd(draw, (image,), (*ODD_PATHS, f"{image}.jpg", image.replace("/", "\\"), f" {image}"), share)
        end = odd(draw, ("1" if image > choices[1] else "0",), NUMBERS, share)
        between = " 1 2 3 " if name == "veri" else odd(draw, (" ",), ("", "\t", ",", "  ", " 5 ", "\u3000"), share)
        lines.append(f"{image}{between}{end}")
    return odd(draw, ("\n", "\r\n"), LINE_ENDS, 0.1).join(lines)


@pytest.mark.parametrize("count", SIZES)
def test_lists(count, campaign, listed):
    with campaign("list files of VehicleID, MSMT17 and VeRi", listed, memory=200 << 20) as run:
        for number in range(count):
            draw = random.Random(f"list {number}")
            name = draw.choice(sorted(LISTS))
            for file in LISTS[name]:
                content = encoded(draw, list_text(draw, name))
                if number % 5 == 0:
                    content = damaged(draw, content, [content, b"\n", bytes(9)])
                (listed / file).write_bytes(content)
            with run.attempt(f"list {number}, {name}"):
                check_splits(read(name, listed))
    assert run.outcomes["accepted"] > count // 10


LAYOUTS = {
    "market1501": ("Market-1501-v15.09.15/{}", ("bounding_box_train", "query", "bounding_box_test")),
    "dukemtmc": ("dukemtmcreid/DukeMTMC-reID/{}", ("bounding_box_train", "query", "bounding_box_test")),
    "veri": ("VeRi/{}", ("image_train", "image_query", "image_test")),
    "folder": ("{}/7", ("train", "query", "gallery")),
}
NAME_PARTS = (
    b"-1", b"0", b"1", b"0002", b"9999", b"_", b"_c", b"_c1", b"_c0", b"_c12", b"_c007", b"s1", b"s", b"_000001_00",
    b".jpg", b".JPG", b".png", b".tif", b".txt", b".", b" ", b"\n", b"\xff", b"\xc3", "人".encode(), "٣".encode(),
    b"9" * 30, b"-", b"c2", b"__", b"~", b"Thumbs.db", b"\\", b"'", b'"', b"\x1b[31m", b"%s", b"{0}", b"\t",
)  # fmt: skip


def file_name(draw):
    """A name of a picture, or one put together of parts of such names."""
    if draw.random() < 0.8:
        return b"%04d_c%ds1_%06d_00.jpg" % (draw.randrange(4), draw.randrange(1, 4), draw.randrange(99))
    return b"".join(draw.choices(NAME_PARTS, k=draw.randrange(1, 8)))[:200]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse file names that are no Unicode")
@pytest.mark.parametrize("count", [pytest.param(30, id="few"), pytest.param(1000, marks=pytest.mark.slow, id="many")])
def test_file_names(count, campaign, tmp_path):
    with campaign("file names of layouts", memory=200 << 20) as run:
        for number in range(count):
            draw = random.Random(f"names {number}")
            name, root = draw.choice(sorted(LAYOUTS)), tmp_path / str(number)
            place, parts = LAYOUTS[name]
            for part in parts:
                folder = root / place.format(part)
                folder.mkdir(parents=True)
                for _ in range(draw.randrange(1, 5)):
                    try:
                        (folder / os.fsdecode(file_name(draw))).touch()
                    except (OSError, ValueError):  # a name that no file can have
                        continue
            with run.attempt(f"names {number}, {name}"):
                check_splits(read(name, root))
    assert run.outcomes["accepted"] > count // 10


@pytest.mark.slow
def test_bombs(campaign, tmp_path):
    """Tables that unfold to more rows, or longer values, than a dataset has."""
    with campaign("tables that would fill the memory", tmp_path, memory=1 << 30) as run:
        for name, rows, value in (("many rows", 20_000_000, "a.jpg"), ("long values", 2000, "a" * 1_000_000)):
            (tmp_path / "a.jpg").touch()
            index = pyarrow.array([0] * 1000, pyarrow.int32())
            path = pyarrow.DictionaryArray.from_arrays(index, [value])
            table = pyarrow.table({"path": path, "pid": ["1"] * 1000, "split": ["train"] * 1000})
            with pyarrow.parquet.ParquetWriter(tmp_path / "t.parquet", table.schema) as writer:
                whole = pyarrow.concat_tables([table] * (rows // 1000))
                writer.write_table(whole)
            with run.attempt(name), pytest.raises(DatasetError) as refusal:
                read("manifest", tmp_path / "t.parquet")
            run.check_message(name, str(refusal.value))
