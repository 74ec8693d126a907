"""Names made safe to show: file names come from strangers and may hold anything but a slash."""

import re

DANGEROUS_CELL = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001 - spreadsheets take the wide signs for the narrow
ESCAPED_CELL = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001


def _escape(character: str) -> str:
    """An unprintable character as Python writes it, and a byte that is not text (PEP 383) as a byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def printable(text: object) -> str:
    r"""Text in which nothing steers a terminal: ESC becomes \x1b, a line feed \n, a byte that is not UTF-8 \xff.

    Characters that reverse the direction of writing are shown in the same way. Anything else stays as it is.
    """
    return "".join(character if character.isprintable() else _escape(character) for character in str(text))


def printable_lines(text: object) -> str:
    """As `printable`, but lines stay lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


def escape_markdown(text: object) -> str:
    """Text that Markdown shows as it is, without emphasis, code, formulas, links or HTML.

    Every ASCII punctuation mark is written as an HTML entity, which Markdown takes for text and never for markup. Do
    not put it between backticks, where entities are not read.
    """
    return "".join(
        f"&#{ord(character)};" if character.isascii() and not character.isalnum() and character != " " else character
        for character in printable(text)
    )


def escape_cell(value):
    """A value for a csv file: text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and DANGEROUS_CELL.match(value) else value


def unescape_cell(value):
    """The value that `escape_cell` was given; text that it would have left alone stays as it is."""
    return value[1:] if isinstance(value, str) and ESCAPED_CELL.match(value) else value


def storable(text: str) -> bool:
    """Whether text can be written to a file in UTF-8, as file names that are not UTF-8 themselves cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
