"""Every rule and error of `data.neurips`, with archives made on the spot and a server of this machine."""

import contextlib
import hashlib
import io
import json
import resource
import stat
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
import tifffile

from tests.commands.test_main import exit_code
from tests.data.test_images import COLOUR, GREY, assert_user_error, encode
from tiledseg_utils.base.files import UserError, read_csv, read_json
from tiledseg_utils.data import archives, images, neurips
from tiledseg_utils.data.images import check_folder, find_pairs, read_image
from tiledseg_utils.data.masks import read_labels
from tiledseg_utils.data.neurips import convert_archive, fetch_archive, judge_bare_nuclei
from tiledseg_utils.data.synthetic import draw_smear

ROOT = "Training-labeled/Training-labeled"
LABELS = np.zeros(GREY.shape, np.int16)
LABELS[1:5, 1:5], LABELS[6:10, 2:8] = 1, 7


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def sample(stem, image=None, labels=LABELS, suffix=".png", root=ROOT):
    """Members of an archive by name: an image, 12 x 9 and coloured by default, and its labels."""
    content = encode(".png", COLOUR) if image is None else image
    stored = labels if isinstance(labels, bytes) else tiff(labels, compression="zlib")
    return {f"{root}/images/{stem}{suffix}": content, f"{root}/labels/{stem}_label.tiff": stored}


def write_archive(path, members, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path):
    """Three images in the published layout, with what macOS adds."""
    members = sample("a") | sample("b") | sample("c")
    junk = {"__MACOSX/Training-labeled/images/._a.png": b"x", f"{ROOT}/images/.DS_Store": b"x", f"{ROOT}/images/": b""}
    return write_archive(tmp_path / "Training-labeled.zip", members | junk | {f"{ROOT}/README.md": b"hello"})


def written(folder):
    """Names of all files in a folder, temporary ones included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def full_disk(size):
    """Files cannot grow beyond `size` bytes, as if the disk were full. Use capsys, which captures without a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---------------------------------------------------------------- download


class Zenodo(ThreadingHTTPServer):
    """Serves a record and its archive; cuts the first `cuts` answers after `cut_at` bytes of the archive."""

    def __init__(self, content):
        self.content, self.cuts, self.cut_at, self.knows_ranges, self.status = content, 0, 300, True, 200
        self.tells_size = True
        self.ranges, self.checksum = [], "md5:" + hashlib.md5(content).hexdigest()
        super().__init__(("127.0.0.1", 0), ZenodoAnswers)
        self.base = f"http://127.0.0.1:{self.server_address[1]}"
        self.record = f"{self.base}/record"
        link = {"self": f"{self.base}/content"}
        self.entry = {"key": neurips.ARCHIVE, "size": len(content), "checksum": self.checksum, "links": link}


class ZenodoAnswers(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        if self.path == "/record":
            return self.answer(200, json.dumps({"files": [{"key": "other.zip"}, server.entry]}).encode())
        server.ranges.append(self.headers["Range"])
        start = int(self.headers["Range"][6:-1]) if server.knows_ranges and self.headers["Range"] else 0
        server.cuts -= 1
        cut_at = server.cut_at if server.cuts >= 0 else None
        status = server.status if server.status != 200 else 206 if start else 200
        return self.answer(status if self.path == "/content" else 404, server.content[start:], cut_at)

    def do_HEAD(self):
        self.send_response(self.server.status if self.path == "/content" else 404)
        if self.server.tells_size:
            self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def answer(self, status, content, cut_at=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def zenodo(archive, monkeypatch):
    monkeypatch.setattr(archives, "PAUSE", 0)
    monkeypatch.setattr(archives, "CHUNK_BYTES", 100)
    with Zenodo(archive.read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_download_goes_on_after_cuts_and_the_folder_is_sound(tmp_path, zenodo, capsys, monkeypatch):
    monkeypatch.setattr(images, "SMALLEST_SIDE", 9)  # the pictures of these tests are tiny
    zenodo.cuts = 2
    assert exit_code("data", "neurips", tmp_path / "out", "--yes", "--record", zenodo.record) == 0
    assert zenodo.ranges == [None, "bytes=300-", "bytes=600-"]
    assert (tmp_path / "out" / "download" / neurips.ARCHIVE).read_bytes() == zenodo.content
    assert exit_code("data", "check", tmp_path / "out") == 0
    output = capsys.readouterr().out
    for word in ("CC BY-NC-ND 4.0", "10.5281/zenodo.10719375", "0.0 MB", "3 images with labels", "no problems"):
        assert word in output
    assert [name for name in written(tmp_path / "out") if name.startswith("download")] == [
        f"download/{neurips.ARCHIVE}"
    ]
    zenodo.status = 500  # a second call needs no server
    assert exit_code("data", "neurips", tmp_path / "out", "--yes", "--record", zenodo.record) == 0
    assert len(zenodo.ranges) == 3


def test_the_next_call_completes_a_download(tmp_path, zenodo, monkeypatch):
    monkeypatch.setattr(archives, "ATTEMPTS", 1)
    zenodo.cuts = 1
    words = ["connection failed", "goes on where it stopped", "zenodo.org/records/10719375", "--archive"]
    assert_user_error(lambda: fetch_archive(tmp_path / "out", True, zenodo.record), zenodo.base, *words)
    assert written(tmp_path / "out") == [f"download/{neurips.ARCHIVE}.part"]
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content
    assert zenodo.ranges == [None, "bytes=300-"]


@pytest.mark.parametrize("start", [b"", b"stale" * 20, b"longer than the archive" * 1000])
def test_a_server_without_ranges_or_a_useless_rest_begins_anew(tmp_path, zenodo, start):
    part = tmp_path / "out" / "download" / f"{neurips.ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(start)
    zenodo.knows_ranges, zenodo.cuts = False, 1
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content
    assert zenodo.ranges[-1] == "bytes=300-"


def test_a_part_that_is_complete_is_not_downloaded_again(tmp_path, zenodo):
    part = tmp_path / "out" / "download" / f"{neurips.ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(zenodo.content)
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content
    assert zenodo.ranges == [] and not part.exists()


def test_interrupt_keeps_what_has_arrived(tmp_path, zenodo, monkeypatch):
    zenodo.cuts = 1

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives.time, "sleep", interrupt)
    assert exit_code("data", "neurips", tmp_path / "out", "--yes", "--record", zenodo.record) == 130
    assert written(tmp_path / "out") == [f"download/{neurips.ARCHIVE}.part"]
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content


def test_wrong_checksum_removes_the_file(tmp_path, zenodo):
    zenodo.entry["checksum"] = "md5:" + "0" * 32
    words = ["checksum is not md5:0000", "removed", "same command", "--archive"]
    target = tmp_path / "out" / "download" / neurips.ARCHIVE
    assert_user_error(lambda: fetch_archive(tmp_path / "out", True, zenodo.record), target, *words)
    assert written(tmp_path / "out") == []
    zenodo.entry["checksum"] = zenodo.checksum
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content


def test_server_errors_say_how_to_do_without(tmp_path, zenodo):
    by_hand = ["https://zenodo.org/records/10719375", "--archive"]

    def fetch(record):
        return lambda: fetch_archive(tmp_path / "out", True, record)

    assert_user_error(fetch(f"{zenodo.base}/none"), "/none", "HTTP status 404", *by_hand)
    assert_user_error(fetch("http://127.0.0.1:9/record"), "127.0.0.1:9", "ConnectionError", *by_hand)
    assert_user_error(fetch(f"{zenodo.base}/content"), "/content", "cannot be read", *by_hand)  # no JSON
    zenodo.status = 503
    assert_user_error(fetch(zenodo.record), "/content", "HTTP status 503", *by_hand)
    zenodo.entry["links"]["self"] += "/gone"
    assert_user_error(fetch(zenodo.record), "/content/gone", "HTTP status 404", *by_hand)
    del zenodo.entry["checksum"]
    assert_user_error(fetch(zenodo.record), "/record", "does not state size and checksum", *by_hand)
    assert written(tmp_path) == [neurips.ARCHIVE]


def test_disk_full_during_download(tmp_path, zenodo, capsys):
    with full_disk(100):
        words = ["cannot be written", "File too large", "disk space"]
        assert_user_error(lambda: fetch_archive(tmp_path / "out", True, zenodo.record), neurips.ARCHIVE, *words)
    assert written(tmp_path / "out") == [f"download/{neurips.ARCHIVE}.part"]
    assert fetch_archive(tmp_path / "out", True, zenodo.record).read_bytes() == zenodo.content


def test_nothing_is_downloaded_without_consent(tmp_path, zenodo, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal
    assert_user_error(lambda: fetch_archive(tmp_path / "out", record=zenodo.record), "neurips", "no terminal", "--yes")
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        words = ["as you wish", "Answer y"]
        assert_user_error(lambda: fetch_archive(tmp_path / "out", record=zenodo.record), neurips.ARCHIVE, *words)
    assert not (tmp_path / "out").exists() and zenodo.ranges == []


def test_yes_is_consent(tmp_path, zenodo, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Yes\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert fetch_archive(tmp_path / "out", record=zenodo.record).exists()
    output = capsys.readouterr().out
    assert output.index("CC BY-NC-ND 4.0") < output.index("[y/n]")


# ---------------------------------------------------------------- conversion


def test_folder_manifest_and_source(tmp_path, archive):
    rows = convert_archive(archive, tmp_path / "out")
    expected = [f"images/{stem}.png" for stem in "abc"] + [f"labels/{stem}_label.tiff" for stem in "abc"]
    assert written(tmp_path / "out") == [*expected, "manifest.csv", "source.json"]
    for pair in find_pairs(tmp_path / "out"):
        np.testing.assert_array_equal(read_image(pair.image), COLOUR)
        np.testing.assert_array_equal(read_labels(pair.mask), LABELS)
    row = read_csv(tmp_path / "out" / "manifest.csv")[0]
    assert row == {key: str(value) for key, value in rows[0].items()}
    assert row == {
        "stem": "a",
        "image_member": f"{ROOT}/images/a.png",
        "label_member": f"{ROOT}/labels/a_label.tiff",
        "dtype": "uint8",
        "channels": "3",
        "height": "12",
        "width": "9",
        "percentile_low": "",
        "percentile_high": "",
        "label_dtype": "int16",
        "instances": "2",
        "image_sha256": hashlib.sha256(encode(".png", COLOUR)).hexdigest(),
    }
    source = read_json(tmp_path / "out" / "source.json")
    assert source["md5"] == hashlib.md5(archive.read_bytes()).hexdigest()
    assert (source["doi"], source["licence"]) == ("10.5281/zenodo.10719375", "CC BY-NC-ND 4.0")
    assert (source["archive"], source["select"]) == (neurips.ARCHIVE, "all")


@pytest.mark.parametrize("root", [".", "Training-labeled", f"x/{ROOT}"])
def test_folders_above_images_do_not_matter(tmp_path, root):
    path = write_archive(tmp_path / "a.zip", sample("a", root=root))
    assert [row["stem"] for row in convert_archive(path, tmp_path / "out")] == ["a"]


WIDE = (np.arange(108, dtype=np.uint16) * 250 + 2000).reshape(12, 9)
FORMATS = {
    "grey8.png": (encode(".png", GREY), np.dstack([GREY] * 3)),
    "rgb.bmp": (encode(".bmp", COLOUR), COLOUR),
    "rgba.png": (encode(".png", np.dstack([COLOUR, GREY])), COLOUR),
    "five.tif": (tiff(np.dstack([COLOUR, GREY, GREY]), photometric="rgb"), COLOUR),
    "zero.tiff": (tiff(COLOUR * np.uint8([0, 1, 1]), photometric="rgb"), COLOUR * np.uint8([0, 1, 1])),
    "grey16.tif": (tiff(WIDE), None),
    "grey16.png": (encode(".png", WIDE), None),
    "rgb16.tif": (tiff(np.dstack([WIDE] * 3), photometric="rgb"), None),
    "signed.tiff": (tiff(WIDE.astype(np.int16)), None),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_8_bit_rgb(tmp_path, name):
    content, expected = FORMATS[name]
    members = sample("x", content, suffix=name[name.index(".") :])
    row = convert_archive(write_archive(tmp_path / "a.zip", members), tmp_path / "out")[0]
    if expected is None:
        low, high = np.percentile(np.dstack([WIDE] * row["channels"]), (0.1, 99.9))
        assert (row["percentile_low"], row["percentile_high"]) == pytest.approx((low, high))
        expected = np.rint(((WIDE - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)[..., None].repeat(3, 2)
    image = read_image(tmp_path / "out" / "images" / "x.png")
    assert np.abs(image.astype(int) - expected).max() <= (0 if row["percentile_low"] == "" else 1)
    assert row["channels"] == {"grey8.png": 1, "rgba.png": 4, "five.tif": 5}.get(
        name, 1 if "grey" in name else row["channels"]
    )


def test_jpeg_images_are_read(tmp_path):
    red = np.full((12, 9, 3), (200, 10, 10), np.uint8)
    path = write_archive(tmp_path / "a.zip", sample("x", encode(".jpg", red), suffix=".JPG"))
    convert_archive(path, tmp_path / "out")
    assert np.abs(read_image(tmp_path / "out" / "images" / "x.png").astype(int) - red).max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_labels_are_kept_as_stored(tmp_path, dtype):
    labels = LABELS.astype(dtype)
    labels[labels == 7] = min(np.iinfo(dtype).max, 100_000)
    row = convert_archive(write_archive(tmp_path / "a.zip", sample("x", labels=labels)), tmp_path / "out")[0]
    assert (row["label_dtype"], row["instances"]) == (np.dtype(dtype).name, 2)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "labels" / "x_label.tiff"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "labels" / "x_label.tiff"), labels)


def test_more_than_65535_instances_survive(tmp_path):
    labels = np.zeros((600, 600), np.int32)
    labels[::2, ::2] = np.arange(1, 90_001).reshape(300, 300)
    members = sample("x", encode(".png", np.zeros((600, 600), np.uint8)), labels)
    assert convert_archive(write_archive(tmp_path / "a.zip", members), tmp_path / "out")[0]["instances"] == 90_000
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "labels" / "x_label.tiff"), labels)
    assert check_folder(tmp_path / "out")[0][0]["objects"] == 90_000


def test_one_instance_or_none_is_counted_as_the_course_reads_it(tmp_path):
    members = sample("one", labels=LABELS * (LABELS == 7)) | sample("none", labels=LABELS * 0)
    rows = convert_archive(write_archive(tmp_path / "a.zip", members), tmp_path / "out")
    assert [(row["stem"], row["instances"]) for row in rows] == [("none", 0), ("one", 1)]
    assert [row["objects"] for row in check_folder(tmp_path / "out")[0]] == [0, 1]


# ---------------------------------------------------------------- archives that are refused


def test_no_archive_or_a_cut_one(tmp_path, archive):
    with pytest.raises(UserError, match="No such file"):
        convert_archive(tmp_path / "none.zip", tmp_path / "out")
    for content in (b"", b"no zip", archive.read_bytes()[:-30]):
        broken = tmp_path / "broken.zip"
        broken.write_bytes(content)
        words = ["not a zip archive", "cut short", "https://zenodo.org/records/10719375"]
        assert_user_error(lambda broken=broken: convert_archive(broken, tmp_path / "out"), broken, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["../evil.png", f"{ROOT}/images/../../../evil.png", "/etc/images/evil.png", "C:\\images\\evil.png", "..\\e.png"],
)
@pytest.mark.parametrize("keep_going", [False, True])
def test_paths_that_lead_elsewhere_are_refused(tmp_path, name, keep_going):
    path = write_archive(tmp_path / "in" / "a.zip", sample("a") | {name: encode(".png", COLOUR)})
    words = [name, "leads out of its folder", "Trust no archive like this"]
    assert_user_error(lambda: convert_archive(path, tmp_path / "out", keep_going=keep_going), path, *words)
    assert written(tmp_path) == ["in/a.zip"]


def test_symbolic_links_are_refused(tmp_path):
    link = zipfile.ZipInfo(f"{ROOT}/images/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_archive(tmp_path / "a.zip", sample("a"))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), path, "link.png", "is a symbolic link")


def test_zip_bombs_are_refused(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "a.zip", sample("a") | {f"{ROOT}/images/bomb.png": bytes(2_000_000)})
    monkeypatch.setattr(archives, "TOTAL_BYTES", 1_000_000)
    words = ["would unpack from 0.0 MB to 0.0 GB", "Trust no archive"]
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), path, *words)
    monkeypatch.setattr(archives, "EXPANSION", 10_000)
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1_000_000)
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), path, "bomb.png", "would unpack to")


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(tmp_path):
    content = bytes(1_000_000)
    path = write_archive(tmp_path / "a.zip", {**sample("a"), f"{ROOT}/images/a.png": content})
    stated, understated = (len(content)).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(stated, understated))
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), "images/a.png", "cannot be unpacked", "CRC")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"readme.txt": b"x"}, ["no files in a folder images or labels"]),
        ({f"{ROOT}/images/a.png": b"x"}, ["no files in a folder labels"]),
        (sample("a") | {f"{ROOT}/images/b.png": b"x"}, [f"{ROOT}/images/b.png has no label", "--keep-going"]),
        (sample("a") | {f"{ROOT}/labels/b_label.tiff": b"x"}, ["b_label.tiff has no image", "--keep-going"]),
        (sample("a") | sample("a", suffix=".bmp"), ["a.png", "a.bmp share one stem"]),
        (sample("a") | sample("a", root="Tuning"), [f"{ROOT}/images/a.png", "Tuning/images/a.png share one stem"]),
        (sample("a") | {f"{ROOT}/images/slide.czi": b"x"}, ["slide.czi is not a PNG"]),
    ],
)
def test_archives_without_pairs(tmp_path, members, words):
    path = write_archive(tmp_path / "a.zip", members)
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), path, *words)
    assert not (tmp_path / "out").exists()


BAD_PAIRS = {
    "negative labels": (sample("b", labels=-LABELS), "b_label.tiff", "holds labels from -7 to 0"),
    "float labels": (sample("b", labels=LABELS.astype(np.float32)), "b_label.tiff", "decimal numbers (float32)"),
    "labels of another size": (sample("b", labels=LABELS.T), "b_label.tiff", "9 x 12 pixels"),
    "labels as JPEG": (sample("b", labels=encode(".jpg", GREY * 0)), "b_label.tiff", "is a JPEG"),
    "labels without background": (
        sample("b", labels=cv2.GaussianBlur(GREY, (3, 3), 0)),
        "b_label.tiff",
        "no pixel is 0",
    ),
    "float image": (
        sample("b", tiff(COLOUR.astype(np.float32), photometric="rgb"), suffix=".tif"),
        "b.tif",
        "decimal numbers",
    ),
    "cut image": (sample("b", encode(".png", COLOUR)[:-9]), "b.png", "cut short"),
    "text as image": (sample("b", b"hello"), "b.png", "is not a PNG"),
    "empty image": (sample("b", b""), "b.png", "is an empty file"),
}


@pytest.mark.parametrize("kind", BAD_PAIRS)
def test_unreadable_members_are_named_and_may_be_left_out(tmp_path, kind, capsys):
    members, name, problem = BAD_PAIRS[kind]
    path = write_archive(tmp_path / "a.zip", sample("a") | members | sample("c"))
    words = [f"{name}: ", problem, "--keep-going"]
    assert_user_error(lambda: convert_archive(path, tmp_path / "one"), f"{path}/{ROOT}", *words)
    assert written(tmp_path / "one") == [".journal.jsonl", "images/a.png", "labels/a_label.tiff", "source.json"]
    assert exit_code("data", "neurips", tmp_path / "two", "--archive", path, "--keep-going") == 1
    error = capsys.readouterr().err
    assert "1 image(s) are left out" in error and f"{name}: " in error and "All others (2)" in error
    assert [row["stem"] for row in read_csv(tmp_path / "two" / "manifest.csv")] == ["a", "c"]
    assert [pair.stem for pair in find_pairs(tmp_path / "two")] == ["a", "c"]


def test_keep_going_lists_everything_and_is_tried_again(tmp_path):
    members = {f"{ROOT}/images/x{index:02}.png": b"" for index in range(14)}
    path = write_archive(tmp_path / "a.zip", sample("a") | sample("b", b"hello") | members)
    for _ in range(2):
        message = assert_user_error(
            lambda: convert_archive(path, tmp_path / "out", keep_going=True), path, "15 image(s)"
        )
        assert message.count("has no label") == 14 and "b.png: is not a PNG" in message
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), path, "x00.png has no label")


def test_damaged_bytes_never_pass_as_another_image(tmp_path, rng):
    whole = write_archive(tmp_path / "a.zip", sample("a")).read_bytes()
    broken, refused = tmp_path / "b.zip", 0
    for attempt in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        broken.write_bytes(content.tobytes())
        try:
            convert_archive(broken, tmp_path / str(attempt))
        except UserError:
            refused += 1
        else:
            np.testing.assert_array_equal(read_image(next((tmp_path / str(attempt) / "images").iterdir())), COLOUR)
    assert refused > 200


# ---------------------------------------------------------------- interruptions, other folders


def fail_at(monkeypatch, name, error):
    """The call of pictures.write_image for the file `name` raises `error`, until the monkeypatch is undone."""
    write = neurips.pictures.write_image

    def failing(path, array):
        if path.name == name:
            raise error
        write(path, array)

    monkeypatch.setattr(neurips.pictures, "write_image", failing)


@pytest.mark.parametrize("name", ["b.png", "b_label.tiff"])
def test_an_interrupted_call_goes_on(tmp_path, archive, monkeypatch, name):
    with monkeypatch.context() as patch:
        fail_at(patch, name, KeyboardInterrupt())
        assert exit_code("data", "neurips", tmp_path / "out", "--archive", archive) == 130
    assert not (tmp_path / "out" / "manifest.csv").exists()
    journal = tmp_path / "out" / neurips.JOURNAL
    journal.write_text(journal.read_text() + '\n{"stem": "c", "ro')  # cut by a crash
    read, names = neurips._read, []
    monkeypatch.setattr(neurips, "_read", lambda *rest: names.append(rest[2].filename) or read(*rest))
    assert [row["stem"] for row in convert_archive(archive, tmp_path / "out")] == ["a", "b", "c"]
    assert names == [f"{ROOT}/{name}" for stem in "bc" for name in (f"images/{stem}.png", f"labels/{stem}_label.tiff")]
    whole = tmp_path / "whole"
    convert_archive(archive, whole)
    assert written(whole) == written(tmp_path / "out")
    for file in written(whole):
        assert (whole / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


def test_a_complete_folder_is_left_as_it_is(tmp_path, archive, monkeypatch):
    rows = convert_archive(archive, tmp_path / "out")
    (tmp_path / "out" / "split.csv").write_text("stem,split\n")
    monkeypatch.setattr(neurips, "_read", None)
    assert [row["stem"] for row in convert_archive(archive, tmp_path / "out")] == [row["stem"] for row in rows]


def test_disk_full_while_unpacking(tmp_path, rng, capsys):
    noise = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    labels = np.zeros((200, 200), np.int16)
    labels[50:90, 50:90] = 1
    members = sample("a") | sample("b", encode(".png", noise), labels) | sample("c")
    path = write_archive(tmp_path / "a.zip", members)
    for keep_going in (False, True):
        with full_disk(20_000):
            words = ["cannot be written", "File too large", "disk space"]
            call = lambda keep_going=keep_going: convert_archive(path, tmp_path / "out", keep_going=keep_going)  # noqa: E731
            assert_user_error(call, tmp_path / "out" / "images" / "b.png", *words)
        done = ["images/a.png", "labels/a_label.tiff", "labels/b_label.tiff", "source.json"]
        assert written(tmp_path / "out") == [".journal.jsonl", *done]
    assert len(convert_archive(path, tmp_path / "out")) == 3
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "images" / "b.png"), noise)


def test_disk_full_while_noting_what_is_done(tmp_path, archive, capsys):
    with full_disk(700):  # room for each small file, not for the growing journal
        words = [neurips.JOURNAL, "cannot be written", "disk space"]
        assert_user_error(lambda: convert_archive(archive, tmp_path / "out"), tmp_path / "out", *words)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert (tmp_path / "out" / neurips.JOURNAL).stat().st_size == 700  # its last line is cut
    assert [row["stem"] for row in convert_archive(archive, tmp_path / "out")] == ["a", "b", "c"]


def test_folders_with_other_content_are_refused(tmp_path, archive, data_folder):
    words = ["holds something else", "empty"]
    before = written(data_folder)
    assert_user_error(lambda: convert_archive(archive, data_folder), data_folder, "masks", *words)
    assert_user_error(lambda: fetch_archive(data_folder, True, "http://127.0.0.1:9"), data_folder, *words)
    assert written(data_folder) == before
    (tmp_path / "own" / "images").mkdir(parents=True)
    assert_user_error(lambda: convert_archive(archive, tmp_path / "own"), tmp_path / "own", "(images)", *words)
    assert_user_error(lambda: convert_archive(archive, archive), archive, "is a file")
    convert_archive(archive, tmp_path / "out", "a,b")
    words = ["another archive or another selection", "empty"]
    assert_user_error(lambda: convert_archive(archive, tmp_path / "out"), tmp_path / "out", *words)
    write_archive(archive, sample("a") | sample("b"))
    assert_user_error(lambda: convert_archive(archive, tmp_path / "out", "a,b"), tmp_path / "out", *words)


# ---------------------------------------------------------------- selection


def test_stems_are_selected_by_list_or_file(tmp_path, archive):
    stems = tmp_path / "stems.txt"
    stems.write_text("\ufeffc\r\n\r\n a \n", encoding="utf-8")
    for number, select in enumerate((str(stems), "c, a,", "a,c")):
        assert [row["stem"] for row in convert_archive(archive, tmp_path / str(number), select)] == ["a", "c"]
        assert [pair.stem for pair in find_pairs(tmp_path / str(number))] == ["a", "c"]
        assert read_json(tmp_path / str(number) / "source.json")["select"] == ["a", "c"]


def test_orphans_that_are_not_selected_do_not_matter(tmp_path):
    path = write_archive(tmp_path / "a.zip", sample("a") | {f"{ROOT}/images/b.png": b""})
    assert len(convert_archive(path, tmp_path / "out", "a")) == 1


def test_unknown_stems(tmp_path, archive):
    words = ["'a.png' is the name of no image", "'zz'", "bare-nuclei"]
    assert_user_error(lambda: convert_archive(archive, tmp_path / "out", "a.png,b,zz"), "--select", *words)
    assert_user_error(lambda: convert_archive(archive, tmp_path / "out", " , "), "--select", "lists no image")
    assert not (tmp_path / "out").exists()


def test_rule_bare_nuclei_takes_smears_and_says_why(tmp_path, capsys):
    smear, cells = draw_smear(1, 0, 384)
    grey = cv2.cvtColor(smear, cv2.COLOR_RGB2GRAY)
    dark = smear * np.uint8([0, 0, 1])
    members = sample("smear", encode(".png", smear), cells) | sample("grey", encode(".png", grey), cells)
    members |= sample("fluorescent", encode(".png", dark), cells)
    path = write_archive(tmp_path / "a.zip", members)
    arguments = ("data", "neurips", tmp_path / "out", "--archive", path, "--select", "bare-nuclei")
    assert exit_code(*arguments) == 0
    output = capsys.readouterr().out
    assert "smear: taken, colour" in output and "grey: left, colour 0.0 is not 5-100" in output
    assert "1 images with labels" in output and [pair.stem for pair in find_pairs(tmp_path / "out")] == ["smear"]
    rows = {row["stem"]: row for row in read_csv(tmp_path / "out" / "selection.csv")}
    assert {stem: row["taken"] for stem, row in rows.items()} == {
        "fluorescent": "False",
        "grey": "False",
        "smear": "True",
    }
    assert "luminance 17.0 is not" in rows["fluorescent"]["reason"] and "dark % 100.0" in rows["fluorescent"]["reason"]
    write_archive(path, sample("grey", encode(".png", grey), cells))
    words = ["no image that --select bare-nuclei takes", "selection.csv"]
    assert_user_error(lambda: convert_archive(path, tmp_path / "none", "bare-nuclei"), path, *words)


@pytest.mark.parametrize("index", range(8))
def test_rule_takes_generated_smears(index):
    assert judge_bare_nuclei(*draw_smear(3, index, 512))[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image, labels: (image[..., [1, 0, 2]], labels), "pink %"),  # green stain
        (lambda image, labels: (image // 2, labels), "background"),
        (lambda image, labels: (np.uint8([120, 40, 120]) + image * 0, labels), "strong stain %"),
        (lambda image, labels: (image, labels * 0), "labelled % 0.0"),
        (lambda image, labels: (image, labels * 0 + 1), "labelled % 100.0"),
        (lambda image, labels: (image, np.arange(labels.size).reshape(labels.shape) * (labels > 0)), "cell px 1.1"),
    ],
)
def test_rule_leaves_other_images(change, word):
    taken, reason = judge_bare_nuclei(*change(*draw_smear(1, 0, 384)))
    assert not taken and f"{word}" in reason


def test_module_is_on_the_ground_floor():
    code = "import sys, tiledseg_utils.data.neurips; print({'keras', 'jax', 'pooch', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
