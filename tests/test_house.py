"""The rooms of the package: who may import whom, and where Keras begins."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tiledseg_utils

PACKAGE = Path(tiledseg_utils.__path__[0])

FLOORS = [
    {"base"},
    {"settings"},
    {"data"},
    {"tiles", "scoring"},
    {"models"},
    {"prediction"},
    {"training"},
    {"course"},
    {"commands"},
    {"__main__"},
]
"""From the ground up: a room imports from its own files and from floors below."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in the file the import stands."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:  # from the package itself: ..room.file, or .room
            names = [node.module] if node.module else [alias.name for alias in node.names]
            rooms |= {name.split(".")[0] for name in names}
    return rooms & set(FLOOR)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem == "__main__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    room = room_of(path)
    upward = {other for other in rooms_imported(path) if other != room and FLOOR[other] >= FLOOR[room]}
    assert not upward


def test_every_room_stands_on_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOOR)


@pytest.mark.parametrize("room", ["base", "settings", "data", "tiles", "scoring"])
def test_the_ground_floor_needs_no_keras(room):
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in (PACKAGE / room).rglob("*.py")]
    imports = "\n".join(f"import {'.'.join(path.parts).removesuffix('.__init__')}" for path in paths)
    code = f"{imports}\nimport sys; sys.exit(bool({{'keras', 'jax', 'matplotlib'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_scripts_may_use_short_names():
    code = (
        "import sys; from tiledseg_utils import images, synthetic, tiling; assert 'keras' not in sys.modules;"
        "from tiledseg_utils import inference, instances; images.read_image, inference.predict_tiled;"
        "import tiledseg_utils.data.images as own, tiledseg_utils.images as short; assert own is short is images"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
