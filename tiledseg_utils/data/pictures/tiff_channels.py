"""TIFF files with a page for each channel, as ImageJ and microscopes write them: which pages these are."""

import json
import re

import tifffile


def channel_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pages of a file that has one for each channel, in their order; empty if it says nothing of that kind.

    What counts is the description of ImageJ, OME or tifffile: it names as many channels as there are pages, one focal
    plane and one time.
    """
    pages = [file.pages[index].aspage() for index in range(len(file.pages))]
    pages = [page for page in pages if not (page.is_reduced or page.is_mask)]
    text = pages[0].description if pages else ""
    count = _imagej_channels(text) or _ome_channels(text) or _tifffile_channels(text)
    alike = {(page.shape, page.dtype, page.photometric, page.samplesperpixel) for page in pages}
    return pages if len(pages) == count and len(alike) == 1 and pages[0].samplesperpixel == 1 else []


def _imagej_channels(text: str) -> int:
    if not text.startswith("ImageJ="):
        return 0
    counts = dict(re.findall(r"^(images|channels|slices|frames)=(\d+)\s*$", text, re.MULTILINE))
    others = int(counts.get("slices", 1)) * int(counts.get("frames", 1))
    return int(counts.get("channels", 0)) if others == 1 else 0


def _ome_channels(text: str) -> int:
    """The channels of the one image that OME describes, if each lies in the page of its number."""
    pixels = re.findall(r"<(?:\w+:)?Pixels\b([^>]*)>", text)
    if len(pixels) != 1:
        return 0
    sizes = dict(re.findall(r"\bSize([CZT])\s*=\s*[\"'](\d+)[\"']", pixels[0]))
    for place in re.findall(r"<(?:\w+:)?TiffData\b([^>]*)>", text):
        numbers = dict(re.findall(r"\b(IFD|FirstC)\s*=\s*[\"'](\d+)[\"']", place))
        if numbers.get("IFD", "0") != numbers.get("FirstC", "0"):
            return 0
    return int(sizes.get("C", 0)) if sizes.get("Z") == sizes.get("T") == "1" else 0


def _tifffile_channels(text: str) -> int:
    try:
        about = json.loads(text)
    except ValueError:
        return 0
    shape = about.get("shape") if isinstance(about, dict) and about.get("axes") == "CYX" else None
    return shape[0] if isinstance(shape, list) and len(shape) == 3 and type(shape[0]) is int else 0
