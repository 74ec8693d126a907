"""Reading presets: YAML files of names and values, taken right or refused with the line that is wrong.

YAML can do more than a preset needs, and some of it goes wrong in silence: of a name that is there twice, the first
value is lost; references can refer to themselves, or grow to billions of values; tags make objects. So the structure of
a file is checked before values are made of it.
"""

from pathlib import Path

import yaml

from ..base.files import UserError
from ..base.paths import NOTEBOOK_FOLDER

FOLDER = NOTEBOOK_FOLDER / "presets"
LARGEST_FILE = 2**20  # bytes
MOST_VALUES = 10_000  # references counted as often as they are used
KINDS = ("str", "int", "float", "bool", "null", "seq", "map", "merge")
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in KINDS}
TEXT = "tag:yaml.org,2002:str"
NOT_IN_PRESETS = {
    "run_dir": "Use --run",
    "data_dir": "Use --data",
    "experiment": "Give it in notebook 3; a report trains the baseline",
}
"""Parameters that no preset gives, and where they are given instead."""


def read_preset(name: str) -> dict:
    """Parameters of a preset: a name in `notebooks/presets/`, or the path of a YAML file.

    Raises:
        UserError: no such preset (the valid names are listed), or not a readable YAML file of names and values.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    content = _parse(_read_text(name, path), path)
    if content is None:
        raise UserError(path, "is empty", "Write lines of the form name: value")
    if not isinstance(content, dict):
        raise UserError(path, "does not hold names and values", "Write lines of the form name: value")
    for parameter, remedy in NOT_IN_PRESETS.items():
        if parameter in content:
            raise UserError(f"{path}: {parameter}", "does not belong into a preset", remedy)
    return content


def _read_text(name: str, path: Path) -> str:
    if not _exists(path):
        valid = ", ".join(sorted(preset.stem for preset in FOLDER.glob("*.yaml")))
        raise UserError(f"preset {name}", "is not known", f"Choose one of {valid}, or give the path of a .yaml file")
    if path.is_dir():
        raise UserError(path, "is a folder", "Give the path of a .yaml file")
    if not path.is_file():
        raise UserError(path, "is not a regular file", "Give the path of a .yaml file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(path, f"cannot be opened ({error.strerror})", "Check its permissions") from error
    if len(content) > LARGEST_FILE:
        raise UserError(path, "is larger than a megabyte", "Give a preset: lines of the form name: value")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(path, f"is not text in UTF-8 (line {line})", "Save it in the encoding UTF-8") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # Too long for a name, or one with a zero byte in it.
        return False


def _parse(text: str, path: Path):
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, loader, path, (), [0])
        return loader.construct_document(root)
    except yaml.reader.ReaderError as error:
        raise UserError(path, "holds characters that no text has", "Give a text file in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{path}, line {mark.line + 1}", f"is not valid YAML ({error.problem})", "Mend it") from error
    except RecursionError as error:
        raise UserError(path, "is nested too deeply", "Write lines of the form name: value") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(path, "holds a number of thousands of digits", "Give a smaller number") from error


def _check(node: yaml.Node, loader: yaml.SafeLoader, path: Path, above: tuple, count: list[int]) -> None:
    """Refuse what a preset must not hold, in a node and all below it.

    Args:
        node: of the file.
        loader: what it was read with.
        path: of the file.
        above: the nodes that hold this one.
        count: of the nodes so far, in a list of one, which is counted up.
    """
    where = f"{path}, line {node.start_mark.line + 1}"
    count[0] += 1
    if any(node is other for other in above):
        raise UserError(where, "a reference (*) refers to what it is part of", "Write the values out")
    if count[0] > MOST_VALUES:
        raise UserError(where, f"references (*) make more than {MOST_VALUES} values", "Write the values out")
    if node.tag not in TAGS:
        kind = node.tag.rsplit(":", 1)[-1]
        raise UserError(where, f"a value is of the kind {kind}", "Write a number, true, false or text in quotes")
    inside = (*above, node)
    if isinstance(node, yaml.ScalarNode):
        # Each kind is written in its own way, and only what was tagged by hand can be written otherwise.
        if node.tag not in (TEXT, loader.resolve(yaml.ScalarNode, node.value, (True, False))):
            raise UserError(where, f"{node.value!r} is not what its tag says", "Leave the tag (!!) out")
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise UserError(where, "a text holds half a character", "Write the character itself")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, loader, path, inside, count)
    else:
        names = set()
        for key, value in node.value:
            _check(key, loader, path, inside, count)
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(where, "a list or a table stands where a name should be", "Write name: value")
            if key.value in names:
                place = f"{path}, line {key.start_mark.line + 1}"
                raise UserError(place, f"{key.value} is there twice", "Keep one of the two")
            names.add(key.value)
            _check(value, loader, path, inside, count)
