"""What the user's environment may not change: numbers, figures, which Python runs, and that a command ends well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

import tiledseg_utils
from tiledseg_utils.base import environment
from tiledseg_utils.base.files import UserError
from tiledseg_utils.course import report
from tiledseg_utils.data.images import check_folder
from tiledseg_utils.data.pictures import write_image

ROOT = Path(__file__).parents[2]


def run_python(code: str, changes: dict) -> subprocess.CompletedProcess:
    """Run code in a fresh Python with other environment variables."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, errors="replace")


def run_command(*arguments, changes: dict | None = None, **options) -> subprocess.CompletedProcess:
    """Run the command line as a program with other environment variables."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(changes or {})}
    command = [sys.executable, "-m", "tiledseg_utils", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, env=env, text=True, errors="surrogateescape", **options)


# --- Keras and JAX ---

LEARN = """
import hashlib
import numpy as np
from tiledseg_utils.models import losses; from tiledseg_utils import models
from tiledseg_utils.models.backend import keras
network = models.build_model("unet", {"base_filters": 4, "levels": 2, "seed": 3})
network.compile("adam", losses.LOSSES["bce_dice"])
images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
truth = (images[..., :1] > 128).astype("float32")
history = network.fit(images, truth, epochs=2, batch_size=2, shuffle=False, verbose=0)
print(len(history.history["loss"]), hashlib.sha256(network.predict(images, verbose=0).tobytes()).hexdigest())
"""

KERAS_JSON = {
    "old tutorial": '{"floatx": "float16", "backend": "tensorflow", "image_data_format": "channels_first"}',
    "another epsilon": '{"epsilon": 0.5}',
    "double precision": '{"floatx": "float64", "image_data_format": "channels_first"}',
    "broken": '{"floatx": "float16",',
}
JAX = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
JAX |= {"JAX_RANDOM_SEED_OFFSET": "5", "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_DISABLE_JIT": "1"}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """What a small network learns with nothing set."""
    done = run_python(LEARN, {"KERAS_HOME": str(tmp_path_factory.mktemp("keras")), "XLA_FLAGS": ""})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ")  # epochs
    return done.stdout


@pytest.mark.parametrize("name", KERAS_JSON)
def test_no_keras_json_changes_what_is_learnt(learnt, tmp_path, name):
    (tmp_path / "keras.json").write_text(KERAS_JSON[name])
    done = run_python(LEARN, {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "", "XLA_FLAGS": ""})
    assert done.stdout == learnt, done.stderr


def test_no_variable_of_keras_or_jax_changes_what_is_learnt(learnt, tmp_path):
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_HOME": str(tmp_path), "XLA_FLAGS": ""}
    done = run_python(LEARN, JAX | limits)
    assert done.stdout == learnt, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "after"),
    [
        *((name, value, None) for name, value in JAX.items()),
        ("KERAS_MAX_EPOCHS", "1", None),
        ("KERAS_MAX_STEPS_PER_EPOCH", "many", None),
        ("NVIDIA_TF32_OVERRIDE", "1", None),
        ("KERAS_BACKEND", "", "jax"),
        ("KERAS_BACKEND", "torch", "torch"),
        ("JAX_PLATFORMS", "cpu", "cpu"),
        ("JAX_COMPILATION_CACHE_DIR", "/tmp/x", "/tmp/x"),
    ],
)
def test_variables_that_change_numbers_go_and_others_stay(monkeypatch, name, value, after):
    monkeypatch.setenv(name, value)
    environment.settle()
    assert os.environ.get(name) == after


@pytest.mark.parametrize(
    ("version", "platform", "machine", "flags"),
    [
        ("0.10.2", "linux", "x86_64", [environment.YNN_FLAG]),
        ("0.12.0.1", "linux", "x86_64", [environment.YNN_FLAG, environment.ONEDNN_FLAG]),
        ("0.12.0.1", "linux", "aarch64", [environment.YNN_FLAG]),
        ("0.12.0.1", "darwin", "arm64", [environment.YNN_FLAG]),
        ("0.13.0", "linux", "x86_64", []),
    ],
)
def test_only_releases_that_were_measured_get_flags(monkeypatch, version, platform, machine, flags):
    monkeypatch.setattr(environment.importlib.metadata, "version", lambda name: version)
    monkeypatch.setattr(environment.sys, "platform", platform)
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    assert list(environment.fast_flags()) == flags


def test_the_user_may_turn_onednn_off(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{environment.ONEDNN_FLAG}=false")
    environment.settle()
    assert not environment.convolves_with_onednn()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "Keras: does not start"),
        ('{"floatx": "float12"}', "Invalid `floatx` configuration"),
        ('{"epsilon": 0}', "Invalid `epsilon` configuration"),
    ],
)
def test_an_impossible_keras_json_is_named(tmp_path, data_folder, content, message):
    (tmp_path / "keras.json").write_text(content)
    done = run_command("evaluate", "model.keras", data_folder, changes={"KERAS_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert message in done.stderr and f"Mend or delete {tmp_path / 'keras.json'}" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("XLA_FLAGS", "--xla_nonsense=1", "(Unknown flag in XLA_FLAGS: --xla_nonsense=1)"),
        ("JAX_PLATFORMS", "abacus", "Unable to initialize backend"),
        ("KERAS_BACKEND", "abacus", "Unable to import backend : abacus"),
    ],
)
def test_what_keeps_keras_from_starting_is_named(data_folder, name, value, message):
    done = run_command("evaluate", "model.keras", data_folder, changes={name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {name}={value}: Keras does not start with this")
    assert message in done.stderr and done.stderr.endswith("Correct or unset the variable.\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "value"), [("MPLBACKEND", "nonsense"), ("PYTHONWARNINGS", "error")])
def test_no_setting_of_python_or_matplotlib_ends_a_command(data_folder, name, value):
    done = run_command("evaluate", "model.keras", data_folder, changes={name: value})
    assert done.stderr.startswith("error: model.keras: ")


def test_flags_of_the_user_are_told(tmp_path):
    done = run_command("evaluate", "model.keras", tmp_path, changes={"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"})
    assert "note: XLA_FLAGS holds --xla_cpu_enable_fast_math=true, which may change scores" in done.stderr


def test_packages_of_another_place_are_told(tmp_path):
    (tmp_path / "tifffile").mkdir()
    (tmp_path / "tifffile" / "__init__.py").write_text("")
    done = run_command("evaluate", "model.keras", "x", changes={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"})
    assert f"note: tifffile from {tmp_path}, not from the environment of this Python" in done.stderr
    assert environment.foreign_packages() == {}


# --- figures ---

DRAW = """
import hashlib, sys
import numpy as np
from tiledseg_utils.course import plots
picture = np.zeros((40, 60, 3), np.uint8)
plots.FigureFolder(sys.argv[1]).grid("a", "A caption.", {"one": picture, "two": picture})
print(hashlib.sha256(open(sys.argv[1] + "/figures/a.png", "rb").read()).hexdigest())
"""


def test_no_matplotlibrc_changes_a_figure(tmp_path):
    found = set()
    for name, content in (("none", ""), ("own", "axes.titlesize: 40\\nfont.family: serif\\nsavefig.bbox: tight\\n")):
        rc = tmp_path / f"{name}.rc"
        rc.write_text(content.replace("\\n", "\n"))
        done = run_python(DRAW.replace("sys.argv[1]", repr(str(tmp_path / name))), {"MATPLOTLIBRC": str(rc)})
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


# --- the kernel ---

FACTS = """
import json, os, sys, tiledseg_utils
from IPython import get_ipython
facts = {
    "python": sys.executable,
    "package": tiledseg_utils.__path__[0],
    "startup": sorted(name for name in ("FROM_IPYTHON", "FROM_PYTHONSTARTUP", "FROM_CONFIG") if name in globals()),
    "user site": bool(sys.flags.no_user_site),
    "own path": "/some/where/of/mine" in sys.path,
    "ipython": os.environ["IPYTHONDIR"],
}
import matplotlib
print("facts", json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What a kernel says of itself that was started amid a hostile environment."""
    home, course, run = (tmp_path_factory.mktemp(name) for name in ("home", "course", "run"))
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    for place in (home / ".local/share/jupyter", home / "path"):
        (place / "kernels" / "python3").mkdir(parents=True)
        (place / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    profile = home / ".ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00.py").write_text("FROM_IPYTHON = 1")
    (profile / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['FROM_CONFIG = 1']")
    (home / "startup.py").write_text("FROM_PYTHONSTARTUP = 1")
    parameters = nbformat.v4.new_code_cell('run_dir: str = ""', metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    cells = [parameters, nbformat.v4.new_code_cell(FACTS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), course / "01_a.ipynb")
    changes = {
        "HOME": str(home),
        "JUPYTER_PATH": str(home / "path"),
        "IPYTHONDIR": str(home / ".ipython"),
        "PYTHONSTARTUP": str(home / "startup.py"),
        "JUPYTER_DEFAULT_PROVISIONER_NAME": "nonsense",
        "PYTHONPATH": f"{ROOT}{os.pathsep}/some/where/of/mine",
    }
    code = (
        "import os, sys; from pathlib import Path; from tiledseg_utils.course import report\n"
        "os.environ['MPLBACKEND'] = 'nonsense'\n"
        f"report.NOTEBOOK_FOLDER = Path({str(course)!r})\n"
        f"report.execute(report.notebooks()[0], Path({str(run)!r}), {{}})"
    )
    command = [sys.executable, "-s", "-c", code]
    done = subprocess.run(command, env={**os.environ, **changes}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("facts ")]
    return json.loads(line.removeprefix("facts ")) | {"home": str(home)}


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ("python", sys.executable),
        ("package", str(Path(tiledseg_utils.__file__).parent)),
        ("startup", []),
        ("user site", True),
        ("own path", True),
    ],
)
def test_the_kernel_is_the_python_that_was_started_and_nothing_else(facts, fact, expected):
    assert facts[fact] == expected


def test_the_kernel_leaves_nothing_behind(facts):
    assert not Path(facts["ipython"]).exists()
    assert not Path(facts["ipython"]).is_relative_to(facts["home"])


# --- the console ---

NAMES = ("血液1", "血液2", "Zelle→3")


@pytest.fixture(scope="module")
def foreign_names(data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    for part in ("images", "masks"):
        (folder / part).mkdir()
        for index, name in enumerate(NAMES):
            (folder / part / f"{name}.png").symlink_to(data_folder / part / f"smear_000{index}.png")
    return folder


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, r"\u8840\u6db21"),
        ({"PYTHONIOENCODING": "ascii"}, r"Zelle\u21923"),
        ({"PYTHONIOENCODING": "cp437:strict"}, r"\u8840\u6db21"),
        ({"PYTHONIOENCODING": "utf-8"}, "血液1"),
        ({"LC_ALL": "C", "PYTHONIOENCODING": ""}, "血液1"),
    ],
)
def test_no_encoding_of_the_console_ends_a_command(foreign_names, changes, shown):
    done = run_command("data", "check", foreign_names, changes=changes)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout and "3 images, no problems" in done.stdout
    assert done.stderr == ""


def test_names_that_are_not_utf_8_are_problems_and_can_be_printed(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        write_image(tmp_path / part / "a.png", np.zeros((8, 8, 3), np.uint8))
        os.rename(tmp_path / part / "a.png", os.fsencode(tmp_path / part) + b"/a\xff.png")
    _, problems = check_folder(tmp_path)
    assert sum("has a name that is not UTF-8" in problem for problem in problems) == 2
    done = run_command("data", "check", tmp_path)
    assert done.returncode == 1 and r"images/a\xff.png has a name that is not UTF-8" in done.stdout


@pytest.mark.parametrize("which", ["run", "data"])
def test_a_report_needs_names_in_utf_8(tmp_path, which):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folders = {"run": tmp_path / "run", "data": None} | {which: odd}
    with pytest.raises(UserError, match=r"has a name that is not UTF-8, which no page can hold\. Rename the folder"):
        report.make_report(folders["run"], "smoke", folders["data"])
    assert not folders["run"].exists()


@pytest.mark.parametrize(
    ("command", "code"), [(["data", "check", "{data}"], 141), (["--help"], 0), (["report", "--help"], 0)]
)
def test_nobody_reads_on(data_folder, command, code):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run_command(*(word.format(data=data_folder) for word in command), stdout=write_end)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (code, "")


def test_a_full_disk_behind_the_console_is_told(data_folder):
    with open("/dev/full", "w") as full:
        done = run_command("data", "check", data_folder, stdout=full)
    assert done.returncode == 1
    assert done.stderr == (
        "error: input or output: cannot be used (No space left on device). "
        "Check its name, its permissions and the disk space.\n"
    )


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
def test_a_closed_console_does_not_matter(data_folder, closed):
    """As `>&-` in a shell, and programs without a window, leave it."""
    redirections = " ".join(f"{number}>&-" for number in closed.split())
    command = f"{sys.executable} -m tiledseg_utils data check '{data_folder}' {redirections}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stderr) == (0, "")
