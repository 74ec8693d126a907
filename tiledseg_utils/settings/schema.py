"""Settings that check themselves: each of their fields has a type, a range, a unit, a default and a line of help.

A setting is a frozen dataclass of pydantic, made with `setting`. A value of another type, or out of range, is a
`UserError` that names the field and says what it takes. The same description makes the help of the command line's
options, a JSON Schema, and the list of all parameters.
"""

import argparse
import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass

from ..base.files import UserError, did_you_mean

Truth = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]


def whole(low: int, high: int):
    """The type of a whole number from `low` to `high`. True is none."""
    return Annotated[int, Field(strict=True, ge=low, le=high)]


def zero_or(low: int, high: int):
    """The type of a whole number from `low` to `high`, or 0, which then has a meaning of its own."""

    def not_between(value: int) -> int:
        if 0 < value < low:
            raise ValueError(f"{value} is out of range")
        return value

    choices = [{"const": 0}, {"type": "integer", "minimum": low, "maximum": high}]
    return Annotated[whole(0, high), AfterValidator(not_between), WithJsonSchema({"anyOf": choices})]


def one_of(*choices: int):
    """The type of some whole numbers. True and 1.0, which Python takes for 1, are none of them."""
    return Annotated[Literal[choices], BeforeValidator(_only_whole)]


def truth_or(word: str):
    """The type of true, false, or a word with a meaning of its own."""
    return Annotated[Literal[True, False, word], BeforeValidator(_only_truth_or_text)]


def _only_truth_or_text(value):
    if not isinstance(value, bool | str):
        raise ValueError(f"{shown(value)} is {_kind(value)}")
    return value


def _only_whole(value):
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is {_kind(value)}")
    return value


def sizes(low: float, high: float):
    """The type of a list of 1 to 16 numbers from `low` to `high`."""
    return Annotated[list[decimal(low, high)], Field(strict=True, min_length=1, max_length=16)]


def wholes(low: int, high: int):
    """The type of a list of 1 to 16 whole numbers from `low` to `high`."""
    return Annotated[list[whole(low, high)], Field(strict=True, min_length=1, max_length=16)]


def channel_numbers():
    """The type of a list of up to 8 different numbers of channels, from 0."""
    return Annotated[list[whole(0, 10**6)], Field(strict=True, max_length=8), AfterValidator(_without_repeats)]


def some_of(names):
    """The type of a list of names, each once. `names` is a `Literal`."""
    return Annotated[list[names], Field(strict=True), AfterValidator(_without_repeats)]


def _without_repeats(names: list) -> list:
    repeated = [name for position, name in enumerate(names) if name in names[:position]]
    if repeated:
        raise ValueError(f"{repeated[0]} is there twice")
    return names


def decimal(low: float, high: float):
    """The type of a finite number from `low` to `high`; a whole number will do."""
    return Annotated[float, Field(strict=True, ge=low, le=high, allow_inf_nan=False)]


def _only_lists(value):
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is {_kind(value)}")
    return value


def span(low: float, high: float):
    """The type of two numbers from `low` to `high`, the first of which is not the larger; lists become tuples."""

    def ascending(ends: tuple) -> tuple:
        if ends[0] > ends[1]:
            raise ValueError(f"the low end {ends[0]} lies above the high end {ends[1]}")
        return ends

    number = decimal(low, high)
    return Annotated[tuple[number, number], BeforeValidator(_only_lists), AfterValidator(ascending)]


def numbers(low: float, high: float):
    """The type of any number of numbers from `low` to `high`; lists become tuples."""
    return Annotated[tuple[decimal(low, high), ...], BeforeValidator(_only_lists)]


def points(low: float, high: float):
    """The type of one or more pairs of numbers from `low` to `high`; lists become tuples."""
    number = decimal(low, high)
    pair = Annotated[tuple[number, number], BeforeValidator(_only_lists)]
    return Annotated[tuple[pair, ...], Field(min_length=1), BeforeValidator(_only_lists)]


def field(default, about: str, unit: str = ""):
    """A field of a setting: its default, one line of help, and its unit.

    Args:
        default: a value, a function that makes it, or ... if a value must be given.
        about: what it is; what follows a semicolon is left out of errors.
        unit: such as "pixels".
    """
    kind = "default_factory" if callable(default) else "default"
    return Field(**{kind: default}, description=about, json_schema_extra={"unit": unit} if unit else None)


def setting(cls):
    """Make a class with fields a setting: frozen, without other names than its own, and checked when it is made."""
    cls = dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))(cls)
    make = cls.__init__

    @functools.wraps(make)
    def __init__(self, *positional, **named):
        try:
            make(self, *positional, **named)
        except ValidationError as error:
            raise user_error(error, cls) from None

    cls.__init__ = __init__
    return cls


def read(cls, values: Mapping, where: str = ""):
    """Make a setting from names and values, such as a section of a preset.

    Args:
        cls: a class made with `setting`.
        values: of its fields; those that are left out have their defaults.
        where: what is put in front of the name of a field in an error.

    Raises:
        UserError: an unknown name, a value of another type, or one out of range.
    """
    try:
        return _adapter(cls).validate_python(values)
    except ValidationError as error:
        raise user_error(error, cls, where) from None


def check_value(cls, name: str, value, where: str = "") -> None:
    """Refuse a value that the field `name` of a setting would not take; numbers of NumPy count as Python's.

    Raises:
        UserError: says what the field takes.
    """
    value = value.item() if hasattr(value, "item") else value
    try:
        _adapter(cls.__pydantic_fields__[name].rebuild_annotation()).validate_python(value)
    except ValidationError as error:
        raise user_error(error, cls, where, (name,)) from None


@functools.cache
def _adapter(kind) -> TypeAdapter:
    return TypeAdapter(kind)


def fields_of(cls) -> dict[str, Any]:
    """The fields of a setting by name: what pydantic knows of each (`description`, `default` and so on)."""
    return cls.__pydantic_fields__


def unit_of(cls, name: str) -> str:
    """The unit of a field, or ""."""
    return (fields_of(cls)[name].json_schema_extra or {}).get("unit", "")


def describe(cls, name: str) -> str:
    """What the field `name` of a setting takes, in words: "a whole number from 0 to 9"."""
    return in_words(_adapter(fields_of(cls)[name].rebuild_annotation()).json_schema())


def in_words(schema: Mapping) -> str:
    """What a JSON Schema takes, as far as the types of this module need it."""
    if "anyOf" in schema:
        return f"0 or {in_words(schema['anyOf'][1])}"
    if "enum" in schema or "const" in schema:
        names = schema.get("enum", [schema.get("const")])
        names = [str(name).lower() if isinstance(name, bool) else str(name) for name in names]  # As YAML has them.
        return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        word = "whole number" if kind == "integer" else "number"
        return f"a {word} from {_plain(schema['minimum'])} to {_plain(schema['maximum'])}"
    if kind == "array":
        return _list_in_words(schema)
    return {"boolean": "true or false", "string": "text"}.get(kind, "names with values")


def _list_in_words(schema: Mapping) -> str:
    if "prefixItems" in schema:
        return f"two numbers, each {in_words(schema['prefixItems'][0])}, the lower one first"
    item = schema["items"]
    if "prefixItems" in item:
        return f"a list of pairs, each {in_words(item['prefixItems'][0])}"
    return f"a list, each {in_words(item)}"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def shown(value) -> str:
    """A value as it is shown in an error: short, and on one line."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value) -> str:
    """The kind of a value in the words of somebody who writes YAML."""
    kinds = {bool: "a truth value", int: "a whole number", float: "a decimal number", str: "text"}
    kinds |= {list: "a list", tuple: "a list", dict: "names with values"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def user_error(error: ValidationError, cls, where: str = "", start: tuple = ()) -> UserError:
    """The first thing that is wrong, for people; an unknown name is told before all else, and a missing one next.

    Args:
        error: what pydantic found.
        cls: the setting that was to be made.
        where: what is put in front of the name of a field.
        start: the name of the field, where a single one was checked.
    """
    found = error.errors(include_url=False)
    unknown = [detail for detail in found if detail["type"] in ("unexpected_keyword_argument", "invalid_key")]
    given = [detail for detail in found if detail["type"] != "missing"]
    detail = (unknown or given or found)[0]
    names = [name for name in (*start, *detail["loc"]) if isinstance(name, str)]
    place = ".".join([where] * bool(where) + names)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, UserError):  # A rule between fields.
        return UserError(".".join([place] * bool(place) + [cause.path]), cause.problem, cause.remedy)
    owner, name = _owner(cls, names)
    if unknown:
        valid, key = list(fields_of(owner)), name or shown(detail["loc"][-1])
        place = place if name else ".".join([place] * bool(place) + [key])
        return UserError(place, "is not known", f"{did_you_mean(key, valid)}Valid are {', '.join(valid)}")
    if detail["type"] == "missing" and detail["loc"][-1] == name:
        return UserError(place, "is missing", f"Give {_asked(owner, name)}")
    if name is None:
        remedy = f"Give names with values; valid are {', '.join(fields_of(owner))}"
        return UserError(place or "the parameters", _problem(detail, None), remedy)
    return UserError(place, _problem(detail, cause), f"{_hint(detail)}Give {_asked(owner, name)}")


def _owner(cls, names: list[str]) -> tuple[Any, str | None]:
    """The innermost setting on the way of `names`, and the name of its field, None for itself."""
    for position, name in enumerate(names):
        inner = fields_of(cls)[name].annotation if name in fields_of(cls) else None
        if not hasattr(inner, "__pydantic_fields__"):
            return cls, name
        cls = inner
        if position == len(names) - 1:
            return cls, None
    return cls, None


def _asked(cls, name: str) -> str:
    return f"{describe(cls, name)} ({about_and_unit(cls, name, fields_of(cls)[name].description.split(';')[0])})"


def about_and_unit(cls, name: str, about: str) -> str:
    """What a field is, with its unit unless the words hold it already."""
    unit = unit_of(cls, name)
    return about if not unit or unit in about else f"{about}; {unit}"


def _problem(detail: Mapping, cause: Exception | None) -> str:
    value, kind = detail["input"], detail["type"]
    if value is None:
        return "has no value"
    if cause is not None:
        return str(cause)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if kind in ("missing", "too_short", "too_long"):
        return f"{shown(value)} has {len(value)} entries"
    if kind == "literal_error":
        return f"{shown(value)} is not known"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("greater_than_equal", "less_than_equal") or (kind == "float_type" and is_number):
        return f"{shown(value)} is out of range"
    return f"{shown(value)} is {_kind(value)}"


def _hint(detail: Mapping) -> str:
    """What may have been meant, in front of the remedy."""
    value = detail["input"]
    if detail["type"] == "literal_error" and isinstance(value, str):
        return did_you_mean(value, detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    if detail["type"] == "float_type" and isinstance(value, str):
        try:
            number = repr(float(value))
        except ValueError:
            return ""
        number = number if "." in number else number.replace("e", ".0e")  # YAML wants a point: 1.0e-09.
        return f"In YAML, this number is written {number}. "
    return ""


def add_option(command: argparse.ArgumentParser, cls, name: str, flag: str = "", **more) -> None:
    """Add an option to a command that takes what the field `name` of a setting takes, with its default and help.

    Args:
        command: what the option belongs to.
        cls, name: the field.
        flag: such as "--size"; by default, the name of the field.
        more: further arguments of `add_argument`, instead of those that follow from the field.
    """
    info = fields_of(cls)[name]
    flag = flag or f"--{name.replace('_', '-')}"
    schema = _adapter(info.rebuild_annotation()).json_schema()
    text = more.pop("help", info.description).replace("%", "%%")
    if schema.get("type") == "boolean":
        command.add_argument(
            flag, action=argparse.BooleanOptionalAction, help=text, **{"default": info.default, **more}
        )
        return
    default = {} if info.is_required() else {"default": info.get_default(call_default_factory=True)}
    if "enum" in schema:
        command.add_argument(flag, choices=schema["enum"], help=text, **{**default, **more})
        return
    several = {"nargs": "+"} if schema.get("type") == "array" else {}
    text = f"{about_and_unit(cls, name, text)}; {describe(cls, name)}"
    command.add_argument(flag, type=_parser(cls, name, schema), help=text, **several, **{**default, **more})


def _parser(cls, name: str, schema: Mapping) -> Callable[[str], Any]:
    """An argument type of argparse that refuses what the field, or an entry of its list, does not take."""
    several = schema.get("type") == "array"
    item = schema["items"] if several else schema.get("anyOf", [schema])[-1]
    number = float if item.get("type") == "number" else int

    def parse(text: str):
        try:
            value = number(text)
            check_value(cls, name, [value] if several else value)
        except UserError as error:
            raise argparse.ArgumentTypeError(f"{error.problem}. {error.remedy}") from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {in_words(item)}") from error
        return value

    return parse
