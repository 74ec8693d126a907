"""The orientation tag of TIFF files and photographs: read and told, but never applied.

Some programs draw masks on the stored pixels, others on what viewers show, and the files do not say which. So pixels
stay as they are stored, and the user is told.
"""

import io

import tifffile

SHOWN = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored along the diagonal",
    6: "turned by 90 degrees clockwise",
    7: "mirrored along the other diagonal",
    8: "turned by 90 degrees anticlockwise",
}


def orientation_notes(tag: int) -> tuple[str, ...]:
    """Words for a tag other than 1, or nothing."""
    return (f"orientation tag {tag} is not applied: viewers show it {SHOWN[tag]}",) if tag in SHOWN else ()


def orientation_of_exif(exif: bytes) -> int:
    """Read the tag from EXIF data, which are a small TIFF; 1 if there is none, or nothing that makes sense."""
    try:
        with tifffile.TiffFile(io.BytesIO(exif)) as file:
            tag = file.pages.first.tags.valueof(274, 1)
    except Exception:  # every layer of tifffile raises its own kind for bytes that make no sense
        return 1
    return tag if isinstance(tag, int) else 1
