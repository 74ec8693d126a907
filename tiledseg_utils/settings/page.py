"""Two files about all parameters, made from their schema: a page for people, and a JSON Schema for editors.

`make presets` writes both beside the presets.
"""

import json
from dataclasses import fields, is_dataclass

from pydantic import TypeAdapter

from ..base.files import atomic_path
from .parameters import Parameters
from .presets import FOLDER, NOT_IN_PRESETS
from .schema import about_and_unit, describe, fields_of

SCHEMA, PAGE = FOLDER / "schema.json", FOLDER / "README.md"

INTRODUCTION = """# Presets

A preset is a YAML file of parameters for `python -m tiledseg_utils report --preset NAME`, where NAME is one of those
here, or the path of your own file. What it leaves out has the default below; a section that it leaves out altogether
is as the `parameters` cells of the notebooks have it. A wrong name, type or value is refused before anything runs.
Editors that know YAML schemas complete and check a preset that begins with this line, with the path of the file here:

    # yaml-language-server: $schema=schema.json

This page and `schema.json` are made by `make presets`.
"""


def json_schema() -> dict:
    """What a preset may hold, as JSON Schema."""
    schema = TypeAdapter(Parameters).json_schema()
    for name in NOT_IN_PRESETS:
        del schema["properties"][name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def page() -> str:
    """What a preset may hold, as Markdown: a table for the parameters and one for each section."""
    parts, seen = [INTRODUCTION, *_table("Parameters", Parameters, NOT_IN_PRESETS)], {Parameters}
    for title, cls in _sections(Parameters, ""):
        if cls not in seen:
            seen.add(cls)
            parts += _table(title, cls)
    return "\n".join(parts)


def _sections(cls, prefix: str) -> list[tuple[str, type]]:
    """The sections of a setting, and theirs, by their full names."""
    found = []
    for field in fields(cls):
        inner = fields_of(cls)[field.name].annotation
        if is_dataclass(inner):
            found += [(f"{prefix}{field.name}", inner), *_sections(inner, f"{prefix}{field.name}.")]
    return found


def _table(title: str, cls, without: tuple = ()) -> list[str]:
    lines = [f"## {title}", "", cls.__doc__.split("\n\n")[0].strip(), ""]
    lines += ["| name | default | takes | what it is |", "|---|---|---|---|"]
    for name in fields_of(cls):
        if name not in without:
            lines.append(f"| {' | '.join([name, _default(cls, name), _takes(cls, name), _about(cls, name)])} |")
    return [*lines, ""]


def _default(cls, name: str) -> str:
    info = fields_of(cls)[name]
    if info.is_required():
        return "must be given"
    value = info.get_default(call_default_factory=True)
    return "see below" if is_dataclass(value) else f"`{json.dumps(value)}`"


def _takes(cls, name: str) -> str:
    inner = fields_of(cls)[name].annotation
    return f"a section, as `{inner.__name__}`" if is_dataclass(inner) else describe(cls, name)


def _about(cls, name: str) -> str:
    return about_and_unit(cls, name, fields_of(cls)[name].description)


def main() -> None:
    """Write both files."""
    for path, text in ((SCHEMA, json.dumps(json_schema(), indent=1) + "\n"), (PAGE, page())):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
