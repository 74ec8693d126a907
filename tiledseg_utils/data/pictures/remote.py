"""Images on other machines: addresses such as s3://bucket/image.zarr, which the library fsspec opens.

An address is kept as a path, like the name of any other image. Where pathlib has dropped a slash, it is put back.
"""

import os
import re
from pathlib import Path

from ...base.files import UserError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.DOTALL)  # A drive of Windows has a single letter.


def address_of(path: Path) -> str | None:
    """The address that a path stands for; None for files and folders of this machine."""
    found = _ADDRESS.fullmatch(Path(path).as_posix())
    return f"{found[1]}://{found[2]}" if found and not os.path.lexists(path) else None


def absolute(path: Path) -> Path:
    """A path as it is understood from any folder."""
    return path if address_of(path) else path.absolute()


def open_store(path: Path):
    """What zarr opens for a path: the path itself, or the store behind an address.

    Raises:
        UserError: fsspec, or what it needs for this kind of address, is missing, or it knows no such kind.
    """
    address = address_of(path)
    if address is None:
        return path
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(address, read_only=True)
    except ImportError as error:
        remedy = "Install it: pip install 'fsspec[http]', or s3fs, gcsfs or adlfs for s3, gs or abfs"
        raise UserError(address, f"needs a package that is missing ({error})", remedy) from error
    except ValueError as error:
        remedy = "Give an address that fsspec knows, such as https://, s3:// or gs://, or a path"
        raise UserError(address, f"cannot be opened ({error})", remedy) from error
