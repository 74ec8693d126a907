"""The book's pages about the package: for each room and each module, what its docstrings say.

Docstrings of the package are Markdown of the simplest kind under Google's section names. Sphinx reads another markup.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence

from ..base.paths import PACKAGE

ROOMS = ("base", "settings", "data", "tiles", "scoring", "models", "prediction", "training", "course", "commands")
"""The subpackages, in the order in which they import from each other."""

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
ITEM = re.compile(r"(?P<names>[*\w.]+(?:, [*\w.]+)*): (?P<text>.*)")


def reference() -> Iterator[tuple[str, str]]:
    """The name and the reStructuredText of the page of each room and of each module."""
    for room in ROOMS:
        paths = sorted((PACKAGE / room).rglob("*.py"))
        modules = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
        below = sorted({name.removesuffix(".__init__") for name in modules} - {room})
        listed = "\n".join(f"   ~tiledseg_utils.{name}" for name in below)
        hidden = "\n".join(f"   {name}" for name in below)
        contents = f".. currentmodule:: None\n\n.. autosummary::\n\n{listed}\n\n.. toctree::\n   :hidden:\n\n{hidden}\n"
        yield room, f"{_described(room)}\n{contents}"
        for name in below:
            yield name, _described(name)


def _described(name: str) -> str:
    return f"{name}\n{'=' * len(name)}\n\n.. automodule:: tiledseg_utils.{name}\n   :members:\n"


def rewrite_docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """What Sphinx calls with each docstring (event `autodoc-process-docstring`): change its lines in place."""
    lines[:] = restructured(lines)


def restructured(lines: Sequence[str]) -> list[str]:
    """A docstring of the package in reStructuredText.

    Args:
        lines: without the indentation that all have in common.

    Returns:
        its text with the same code, and its sections as lists under their names.
    """
    found, place = [], 0
    while place < len(lines):
        section = lines[place].removesuffix(":")
        body, after = _indented(lines, place + 1)
        if section in (*SECTIONS, "Example") and lines[place].endswith(":") and body:
            shown = _code(body) if section == "Example" else _items(body)
            found += ["", f"**{section}**", "", *shown, ""]
            place = after
        elif lines[place].startswith(" ") and not lines[place - 1].strip():
            body, place = _indented(lines, place)
            found += _code(body)
        else:
            found.append(_text(lines[place]))
            place += 1
    return found


def _code(lines: Sequence[str]) -> list[str]:
    return ["::", "", *textwrap.indent("\n".join(lines), "   ").splitlines(), ""]


def _indented(lines: Sequence[str], start: int) -> tuple[list[str], int]:
    """The indented lines from a place on, without what they have in common, and the place after them."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return textwrap.dedent("\n".join(lines[start:end])).strip("\n").splitlines(), end


def _items(lines: Sequence[str]) -> list[str]:
    """The lines of a section as a list, if they are items of it, "name: text"; else as text."""
    found, place = [], 0
    while place < len(lines):
        item = ITEM.fullmatch(lines[place])
        body, after = _indented(lines, place + 1)
        if item is None and found and found[-1].startswith("* ``"):  # The rest of an item that is not indented.
            found[-1] += f" {' '.join(_text(line) for line in lines[place:after])}"
        elif item is None:
            found += [_text(line) for line in lines[place:after]]
        elif item["text"].endswith(":"):  # What follows are items within this one.
            found += [f"* ``{item['names']}``: {_escaped(item['text'])}", ""]
            found += ["", *(f"  {line}" if line else "" for line in _items(body)), ""]
        else:
            found.append(f"* ``{item['names']}``: {' '.join(map(_escaped, [item['text'], *body]))}")
        place = after
    return found


def _text(line: str) -> str:
    """A line of text; as an entry of a list it may begin with a mark, and stand further right."""
    start = re.match(r" *(?:[*-] )?", line)[0]
    return start + _escaped(line[len(start) :])


def _escaped(text: str) -> str:
    """Text in which nothing but code, between single backticks, is markup."""
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = [re.sub(r"([*|\\_`])", r"\\\1", part) for part in parts[::2]]
    for place in range(1, len(parts), 2):
        letter = re.match(r"\w", parts[place + 1])  # Which may follow only after a space, escaped to nothing.
        parts[place] = f"`{parts[place]}`" + ("\\ " if letter else "")
    return "".join(parts)
