"""The size of a pixel, from what programs write, and from nothing else."""

import numpy as np
import pytest
import tifffile

from tests.data.test_streaming import assert_user_error
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.data.pixel_size import find_pixel_size, read_pixel_size, require_pixel_size

PIXELS = np.zeros((6, 8), np.uint8)
OME = {"axes": "YX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
APERIO = "Aperio Image Library v11\r\n8x6 |AppMag = 40|MPP = 0.2521|Left = 1"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),  # of a printer
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (4, 4), "resolutionunit": "NONE"}, None),  # pixels per nobody knows what
        ({}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "micron"}}, 0.25),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "mm"}}, 500.0),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"ome": True, "metadata": OME}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
        ({"description": APERIO, "metadata": None}, 0.2521),
    ],
)
def test_what_files_say(tmp_path, options, size):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, **options)
    assert read_pixel_size(tmp_path / "a.tif") == (None if size is None else pytest.approx(size, rel=1e-6))


def test_other_files_say_nothing(tmp_path):
    write_image(tmp_path / "a.png", PIXELS)
    (tmp_path / "b.tif").write_bytes(b"II*\0 and nothing else")
    np.save(tmp_path / "c.npy", PIXELS)
    assert [read_pixel_size(path) for path in sorted(tmp_path.iterdir())] == [None] * 3
    assert_user_error(lambda: require_pixel_size(tmp_path / "a.png", None), tmp_path / "a.png", "in µm", "--pixel-size")
    require_pixel_size(tmp_path / "a.png", 0.5)


def test_pixels_that_are_no_squares_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, resolution=(40000, 20000), resolutionunit="CENTIMETER")
    assert_user_error(lambda: read_pixel_size(path), path, "0.5 x 0.25 µm (height x width)", "--pixel-size")
    assert find_pixel_size(path) is None
