"""Slides and other pyramids: every kind of file gives the same pixels whole, by rows and by levels, or is refused."""

import itertools
import json

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.pictures import ImagePart, read_image, tiff_rows
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.data.streaming import hash_part, open_source, read_whole

from . import slide_files
from .slide_files import FULL, KINDS, LEVELS, MPP, TILED


def by_rows(part, step=100):
    with open_source(part) as source:
        cuts = [*range(0, source.shape[0], step), source.shape[0]]
        return np.concatenate([source.read_rows(*rows) for rows in itertools.pairwise(cuts)]), source.scale


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_of_every_kind_is_the_same_whole_and_by_rows(tmp_path, name, level):
    part = ImagePart(slide_files.write(tmp_path / name), level)
    rows, scale = by_rows(part)
    np.testing.assert_array_equal(read_image(part), LEVELS[level])
    np.testing.assert_array_equal(rows, LEVELS[level])
    assert scale == (2**level, 2**level) and read_pixel_size(part) == pytest.approx(MPP * 2**level)


@pytest.mark.parametrize("writer", [slide_files.write_svs, slide_files.write_flagged, slide_files.write_below])
def test_levels_in_jpeg_are_decoded_alike(tmp_path, writer):
    path = tmp_path / "slide.tif"
    writer(path, compression="jpeg", compressionargs={"level": 95}, subsampling=(1, 1))
    for level, expected in enumerate(LEVELS):
        whole = read_image(ImagePart(path, level))
        np.testing.assert_array_equal(whole, by_rows(ImagePart(path, level))[0])
        assert np.abs(whole.astype(int) - expected).mean() < 6


def test_a_slide_of_hamamatsu_is_decoded_piece_by_piece(tmp_path, monkeypatch):
    path = tmp_path / "slide.ndpi"
    slide_files.write_ndpi(path)
    decoded, decode = [], tiff_rows._Segments._decode

    def counted(segments, index):
        decoded.append(index)
        return decode(segments, index)

    monkeypatch.setattr(tiff_rows._Segments, "_decode", counted)
    for level, pixels in enumerate(LEVELS):
        part = ImagePart(path, level)
        expected = cv2.imdecode(np.frombuffer(slide_files.ndpi_jpeg(pixels), np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(read_image(part), expected)
        rows, scale = by_rows(part)
        np.testing.assert_array_equal(rows, expected)
        assert scale == (2**level, 2**level) and read_pixel_size(part) == pytest.approx(MPP * 2**level)
    decoded.clear()
    with open_source(path) as source:
        source.read_rows(8, 16)
    assert len(decoded) == FULL.shape[1] // (8 * slide_files.RESTART)  # One row of pieces, not the whole strip.


def test_a_damaged_piece_of_a_slide_of_hamamatsu_is_named(tmp_path):
    path = tmp_path / "slide.ndpi"
    slide_files.write_ndpi(path)
    damage(path)
    with pytest.raises(UserError, match="is damaged: rows 0-7, columns 288-431 cannot be decoded"):
        read_image(path)
    rows, whole = by_rows(ImagePart(path, keep_going=True))[0], read_image(ImagePart(path, keep_going=True))
    assert (rows[:8, 288:432] == 0).all() and rows[:8, :288].any()
    np.testing.assert_array_equal(rows, whole)


@pytest.mark.parametrize("name", KINDS)
def test_a_level_that_is_not_there_is_told_with_those_that_are(tmp_path, name):
    path = slide_files.write(tmp_path / name)
    for read in (read_image, by_rows):
        with pytest.raises(UserError, match=r"has no level 3.*Choose one of its levels") as caught:
            read(ImagePart(path, 3))
        assert str(path) in str(caught.value)


def test_a_plain_picture_has_no_levels(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", FULL, photometric="rgb")
    with pytest.raises(UserError, match="has no level 1"):
        read_image(ImagePart(tmp_path / "plain.tif", 1))
    np.save(tmp_path / "plain.npy", FULL)
    with pytest.raises(UserError, match="holds one image, and level 1 is asked for"):
        open_source(ImagePart(tmp_path / "plain.npy", 1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (LEVELS[1].astype(np.uint16), "the numbers differ"),
        (LEVELS[1][..., 0], "the channels and the colours differ"),
        (LEVELS[1][:, :200], "the size differ"),
    ],
)
def test_a_level_that_is_no_copy_of_its_image_is_refused_when_it_is_asked_for(tmp_path, wrong, words):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(FULL, metadata=None, **TILED)
        about = {**TILED, "photometric": "rgb" if wrong.ndim == 3 else "minisblack"}
        tiff.write(wrong, subfiletype=1, metadata=None, **about)
    np.testing.assert_array_equal(read_image(path), FULL)
    with pytest.raises(UserError, match=words):
        read_image(ImagePart(path, 1))


def test_series_are_chosen_by_their_number(tmp_path):
    path = slide_files.write(tmp_path / "aperio.svs")
    np.testing.assert_array_equal(read_image(ImagePart(path, series=1)), FULL[::8, ::8])
    assert read_pixel_size(ImagePart(path, series=1)) is None  # Of a thumbnail, nothing is told.
    with pytest.raises(UserError, match=r"has no series 7. Choose one of its series: 0 \(384 x 576 x 3\), 1 \(48"):
        read_image(ImagePart(path, series=7))


def test_pages_of_different_sizes_can_be_chosen(tmp_path):
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(FULL[:40], photometric="rgb", metadata=None)
        tiff.write(FULL[:, :50], photometric="rgb", metadata=None)
    with pytest.raises(UserError, match=r"different sizes.*choose one with --series: 0 .*, 1 "):
        read_image(path)
    np.testing.assert_array_equal(read_image(ImagePart(path, series=1)), FULL[:, :50])


def test_a_stack_is_refused_as_a_series_too(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([FULL, FULL]), photometric="rgb")
    with pytest.raises(UserError, match="has 2 focal planes, times or channels in series 0"):
        read_image(ImagePart(path, series=0))


@pytest.mark.parametrize(
    ("mpp", "shape", "level"), [(1.0, (192, 288), 1), (1.5, (128, 192), 1), (0.25, (768, 1152), 0)]
)
def test_a_slide_is_resampled_from_the_level_that_has_at_least_its_detail(tmp_path, mpp, shape, level):
    path = slide_files.write(tmp_path / "flagged.tif")
    part = ImagePart(path, mpp=mpp)
    rows, scale = by_rows(part, 37)
    np.testing.assert_array_equal(rows, read_whole(part))
    assert rows.shape == (*shape, 3) and read_pixel_size(part) == mpp
    assert scale == pytest.approx((mpp / MPP, mpp / MPP))
    factor = mpp / (MPP * 2**level)
    middles = [((np.arange(side) + 0.5) * factor).astype(int) for side in shape]
    flat = np.abs(rows.astype(int) - LEVELS[level][np.ix_(*middles)]).max(axis=-1) == 0
    assert flat.mean() > 0.5  # Only at the borders of the even squares, neighbours are mixed.


def test_resampling_needs_the_size_of_a_pixel(tmp_path):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, FULL, photometric="rgb", metadata=None)
    with pytest.raises(UserError, match="does not say how large its pixels are, so that it cannot be resampled"):
        open_source(ImagePart(path, mpp=1.0))
    with open_source(ImagePart(path, mpp=1.0, pixel_size=0.5)) as source:
        assert source.shape == (192, 288)
    with pytest.raises(UserError, match="mpp: is given together with level 2"):
        ImagePart(path, level=2, mpp=1.0)


def test_a_given_pixel_size_is_that_of_the_full_image(tmp_path):
    for name in ("lzw.tif", "new.zarr"):
        path = slide_files.write(tmp_path / name)
        assert read_pixel_size(ImagePart(path, 2, pixel_size=0.3)) == pytest.approx(1.2)


def test_parts_of_a_file_are_told_apart(tmp_path):
    path = slide_files.write(tmp_path / "lzw.tif")
    parts = [ImagePart(path), ImagePart(path, 1), ImagePart(path, mpp=1.5), ImagePart(path, series=0)]
    identities, hashes = [], {json.dumps(hash_part(part)) for part in parts}
    for part in parts:
        with open_source(part) as source:
            identities.append(json.dumps(source.identity(), sort_keys=True))
    assert len(set(identities)) == len(hashes) == 4


def damage(path):
    """Overwrite the middle of the third tile of the first page, and return the rows and columns of that tile."""
    with tifffile.TiffFile(path) as tiff:  # Which tells NDPI by its name.
        page = tiff.pages.first
        offset, size = page.dataoffsets[2], page.databytecounts[2]
    content = bytearray(path.read_bytes())
    content[offset + size // 3 : offset + size // 2] = bytes(size // 2 - size // 3)
    path.write_bytes(content)
    return np.s_[0:128, 256:384]


def test_a_damaged_tile_is_named_and_passed_over_only_on_demand(tmp_path, capsys, caplog):
    path = tmp_path / "slide.tif"
    slide_files.write_flagged(path, compression="zlib")
    place = damage(path)
    for read in (read_image, by_rows):
        with pytest.raises(UserError, match="is damaged: rows 0-127, columns 256-383 cannot be decoded"):
            read(path)
    rest, expected = ImagePart(path, keep_going=True), FULL.copy()
    expected[place] = 0
    np.testing.assert_array_equal(read_image(rest), expected)
    np.testing.assert_array_equal(by_rows(rest)[0], expected)
    assert "damaged: rows 0-127, columns 256-383 cannot be decoded" in caplog.text and "taken as 0" in caplog.text
    np.testing.assert_array_equal(read_image(ImagePart(path, 1)), LEVELS[1])  # Another level is whole.


@pytest.mark.parametrize("name", ["lzw.tif", "planar.tif", "new.zarr", "sharded.zarr"])
def test_channels_are_chosen_by_their_numbers(tmp_path, name):
    path = slide_files.write(tmp_path / name)
    for channels in ([2, 0, 1], [1], [0, 0, 2]):
        part = ImagePart(path, 1, channels=channels)
        expected = LEVELS[1][..., channels * (3 // len(channels))]
        np.testing.assert_array_equal(read_image(part), expected)
        np.testing.assert_array_equal(by_rows(part)[0], expected)
    with pytest.raises(UserError, match=r"has no channel 3\. Choose from its channels, 0 to 2"):
        read_image(ImagePart(path, channels=[3]))


def test_more_channels_than_colours(tmp_path, caplog):
    path = tmp_path / "five.tif"
    five = np.concatenate([FULL, 255 - FULL[..., :2]], axis=-1)
    tifffile.imwrite(path, five, photometric="minisblack", planarconfig="contig", tile=(128, 128))
    np.testing.assert_array_equal(read_image(ImagePart(path, channels=[4, 3, 0])), five[..., [4, 3, 0]])
    assert "used" not in caplog.text


def test_channels_that_cannot_be_chosen_are_told(tmp_path):
    for channels in ([0, 1], [], [-1], [0, 1, 2, 3]):
        with pytest.raises(UserError, match="Give one for a grey image, or three for red, green, blue"):
            ImagePart(tmp_path / "a.tif", channels=channels)
    inks = np.concatenate([FULL, FULL[..., :1]], axis=-1)
    tifffile.imwrite(tmp_path / "inks.tif", inks, photometric="separated")
    with pytest.raises(UserError, match="has colours that are mixed from all its channels"):
        read_image(ImagePart(tmp_path / "inks.tif", channels=[0]))
    np.save(tmp_path / "a.npy", FULL)
    with pytest.raises(UserError, match="is read with its first channels"):
        open_source(ImagePart(tmp_path / "a.npy", channels=[2]))


# ---------------------------------------------------------------- OME-Zarr


@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tczyx"])
def test_axes_go_by_their_names(tmp_path, axes):
    slide_files.write_zarr(tmp_path / "a.zarr", axes=axes)
    image = read_image(tmp_path / "a.zarr")
    expected = FULL if "c" in axes else np.repeat(FULL[..., :1], 3, -1)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(by_rows(tmp_path / "a.zarr")[0], expected)


def spoil(path, change):
    group = slide_files.write_zarr(path)
    about = slide_files.describe("0.5")["ome"]
    change(about["multiscales"][0], about)
    group.attrs["ome"] = about


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image, about: about.pop("multiscales"), "is a Zarr without multiscales"),
        (
            lambda image, about: image.update(axes=[{"name": "y"}, {"name": "x"}]),
            "names the axes y, x for an array of 5",
        ),
        (lambda image, about: image["axes"][3].update(name="row"), "with y and x among them"),
        (lambda image, about: about.update(version="0.6"), "is an OME-Zarr of version 0.6"),
        (lambda image, about: image["datasets"][0].update(path="9"), "is half written or damaged: its level '9'"),
        (lambda image, about: image["datasets"].append({"path": "3"}), "is half written or damaged: its level '3'"),
        (lambda image, about: image["datasets"][1].pop("path"), "describes its levels wrongly"),
    ],
)
def test_a_zarr_that_is_no_image_is_refused_by_name(tmp_path, change, words):
    path = tmp_path / "a.zarr"
    spoil(path, change)
    for read in (read_image, by_rows):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_a_stack_of_times_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=np.zeros((4, 1, 1, 64, 64), np.uint8))
    group.attrs.update(slide_files.describe("0.5", levels=1))
    with pytest.raises(UserError, match="is a stack of 4 times"):
        read_image(tmp_path / "a.zarr")


def test_a_plate_and_a_plain_folder_are_refused(tmp_path):
    zarr.open_group(tmp_path / "plate.zarr", mode="w").attrs["ome"] = {"version": "0.5", "plate": {}}
    with pytest.raises(UserError, match="holds several images"):
        read_image(tmp_path / "plate.zarr")
    with pytest.raises(UserError, match="Is a directory"):
        open_source(tmp_path)


def test_missing_chunks_are_counted_and_damaged_ones_named(tmp_path, caplog):
    path = tmp_path / "a.zarr"
    slide_files.write_zarr(path, axes="cyx")
    chunks = sorted((path / "0" / "c" / "0").rglob("*"))
    chunks = [chunk for chunk in chunks if chunk.is_file()]
    chunks[0].unlink()
    expected = FULL.copy()
    expected[:128, :128, 0] = 0
    np.testing.assert_array_equal(read_image(path), expected)
    assert "1 of 45 chunks are not in the store, taken as 0" in caplog.text
    chunks[1].write_bytes(b"no chunk")
    with pytest.raises(UserError, match=r"is damaged: rows .* cannot be decoded"):
        by_rows(path)
