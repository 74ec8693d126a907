"""Between a command and the world: signs that a console lacks, signals, and one last handler for every error."""

import contextlib
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..base.files import UserError, WriteError
from ..base.text import printable, printable_lines

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""What ends a command from outside; Windows has no SIGHUP."""

TRACEBACK = "TILEDSEG_TRACEBACK"
"""Environment variable: if it is set, errors come with the place in the program where they happened."""

MAKE = {"--run": "RUN=", "--overwrite": "OVERWRITE=1", "--data": "DATA=", "--preset": "PRESET="}
"""What users of make write instead of an option; the Makefile sets TILEDSEG_MAKE."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the command; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP raise `Stopped`, once: what tidies up then is not disturbed again.

    A signal that was ignored before, as `nohup` has it, stays ignored.
    """
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    heeded = [number for number in numbers if before[number] is not signal.SIG_IGN]

    def stop(number, frame):
        for other in heeded:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    for number in heeded:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heeded:
            if signal.getsignal(number) is stop:  # Else the process is about to end, and stays deaf until then.
                signal.signal(number, before[number] or signal.SIG_DFL)


def settle_console() -> None:
    """Make it safe to print: signs that the console lacks appear as their number, and a closed console takes all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def give_up_printing() -> None:
    """Send what is left to print nowhere, since Python would print it when it ends, and fail once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def say(message: object) -> None:
    """Print a message for people to stderr, in terms of make if make was called."""
    text = printable_lines(message)
    if os.environ.get("TILEDSEG_MAKE"):
        for option, word in MAKE.items():
            text = re.sub(rf"(?<![\w-]){option}(?![\w-])", word, text)
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def os_error(error: OSError, file: Path | None) -> UserError:
    """An error of the system in the words of this package, a `WriteError` where the disk is full."""
    path = file or "input or output" if error.filename is None else error.filename
    place = os.fsdecode(path) if isinstance(path, (bytes, str, os.PathLike)) else str(path)
    kind = WriteError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
    problem = f"cannot be used ({error.strerror or error})"
    return kind(place, problem, "Check its name, its permissions and the disk space")


def explain(error: Exception, file: Path | None = None) -> UserError:
    """Any error as one that names the file (`file`, where it names none itself), the problem and the remedy."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return os_error(error, file)
    if isinstance(error, UnicodeError):
        return UserError("text", f"is in another encoding than UTF-8 ({error})", "Save the file, or its name, as UTF-8")
    if isinstance(error, MemoryError):
        remedy = "Close other programs, or choose smaller images, tiles or batches"
        return UserError(file or "this command", "needs more memory than there is", remedy)
    if isinstance(error, RecursionError):
        return UserError("input", "is nested too deeply to be read", "Write it with fewer levels")
    kind, said = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, ImportError):
        remedy = "Install the package as the README says, and unset PYTHONPATH if it names other packages"
        return UserError("Python", f"cannot import what it needs ({said})", remedy)
    remedy = f"This should not happen; set {TRACEBACK}=1 to see where, and report it"
    return UserError("unexpected error", f"{kind} ({said})" if said else kind, remedy)


def run_safely(command: Callable[[], object]) -> int:
    """Run a command to its end, whatever it is, and return the exit code for it.

    Returns:
        0 success, 1 failure, 130 Ctrl-C, 141 nobody reads what is printed, 143 SIGTERM, 129 SIGHUP.
    """
    settle_console()
    try:
        with signals_stop():
            command()
            sys.stdout.flush()
    except SystemExit:  # Of argparse, which has printed help, or what is wrong with the arguments.
        give_up_if_full()
        raise
    except BrokenPipeError:
        give_up_printing()
        return 128 + 13
    except KeyboardInterrupt as stopped:
        say("interrupted; give the same command again to do the rest; with --overwrite, it starts from the beginning")
        return 128 + getattr(stopped, "number", signal.SIGINT)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        say(f"error: {explain(error)}")
        give_up_if_full()
        return 1
    return 0


def give_up_if_full() -> None:
    """Try to print what is left, and give up if that fails, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError:
        give_up_printing()


def print_table(rows: Sequence[dict]) -> None:
    """Rows of one kind in columns, the names above them; decimals with four digits. No rows print nothing."""
    if not rows:
        return
    texts = [
        {name: f"{value:.4f}" if isinstance(value, float) else printable(value) for name, value in row.items()}
        for row in rows
    ]
    widths = {name: max(len(name), *(len(text[name]) for text in texts)) for name in texts[0]}
    for text in [{name: name for name in widths}, *texts]:
        print("  ".join(text[name].ljust(width) for name, width in widths.items()).rstrip())


def print_classes(matrices: dict, names: Sequence[str], seed: int) -> None:
    """Scores of each class over some images, and which class was taken for which, in percent of its pixels."""
    from ..scoring.classes import class_rows

    rows = class_rows(matrices, names, seed)
    print_table([{name: "" if value is None else value for name, value in row.items()} for row in rows])
    total = sum(matrices.values())
    shares = 100 * total / total.sum(axis=1, keepdims=True).clip(1)
    print("pixels of a class (rows) by the class that was predicted, %")
    print_table(
        [
            {"class": name} | {other: f"{share:.1f}" for other, share in zip(names, line, strict=True)}
            for name, line in zip(names, shares, strict=True)
        ]
    )
