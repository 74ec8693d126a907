"""Every parameter, wrong in every way: from a preset, from a notebook and from the command line."""

import dataclasses
import inspect
import json
import math

import jsonschema
import nbformat
import numpy as np
import pytest
import yaml

from tiledseg_utils import __main__ as command_line
from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.course import report
from tiledseg_utils.data.classes import Classes
from tiledseg_utils.models import losses
from tiledseg_utils.models.interface import Interface
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.prediction.inference import multi_scale, plan_prediction
from tiledseg_utils.prediction.instances import label_file, label_image
from tiledseg_utils.scoring.foreground import find_foreground
from tiledseg_utils.settings import page as parameter_page
from tiledseg_utils.settings import parameters, presets
from tiledseg_utils.settings.architectures import ModelSettings
from tiledseg_utils.settings.parameters import Parameters, TileSetting, TrainingSetting, check_all
from tiledseg_utils.settings.schema import check_value, fields_of, read

PRESETS = sorted(path.stem for path in presets.FOLDER.glob("*.yaml"))
SCHEMA = parameter_page.TypeAdapter(Parameters).json_schema()


def nested(key: str, value) -> dict:
    """{"a": {"b": value}} for "a.b"."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def leaves(schema: dict, prefix: str = "") -> list[tuple[str, dict]]:
    """Every key of the schema by its full name, sections included, with what it takes."""
    found = []
    for name, entry in schema["properties"].items():
        if "$ref" in entry:
            entry = SCHEMA["$defs"][entry["$ref"].rsplit("/", 1)[-1]]
            found += leaves(entry, f"{prefix}{name}.")
        found.append((f"{prefix}{name}", entry))
    return found


NO_NUMBERS = [None, True, "1", math.nan, math.inf, -math.inf, [1], {}, {1}, b"1"]


def wrong_values(entry: dict) -> list:
    """Values that a key must refuse: other kinds, not finite, below and above."""
    if "anyOf" in entry:
        entry = entry["anyOf"][1]
        return [*NO_NUMBERS, 1.5, -1, 1, entry["minimum"] - 1, entry["maximum"] + 1]
    if "enum" in entry:
        truth = [] if True in [choice for choice in entry["enum"] if isinstance(choice, bool)] else [True, False]
        return [None, *truth, 1.0, "", "none of them", [entry["enum"][0]], 10**6]
    kind = entry["type"]
    if kind == "integer":
        return [*NO_NUMBERS, 1.5, 1e3, entry["minimum"] - 1, entry["maximum"] + 1, 10**400]
    if kind == "number":
        return [*NO_NUMBERS, entry["minimum"] - 1e-3, entry["maximum"] * 1.001 + 1e-3, 10**400]
    if kind == "array":
        return [None, True, 1, "ab", {}, {1, 2}, ["a", "b"], [None, None], [math.nan, math.nan], [[1, [2]]], [1e9, 1e9]]
    if kind == "boolean":
        return [None, 1, 0.0, "true", [True]]
    if kind == "string":
        return [None, 1, True, ["a"], b"a"]
    return [None, True, 1, "a", ["a"], {"no such name": 1}, {1: 2}, {None: 1}]


ROWS = [(key, value) for key, entry in leaves(SCHEMA) for value in wrong_values(entry)]


@pytest.mark.parametrize(("key", "value"), ROWS)
def test_wrong_values_of_every_key_are_refused_by_its_name(key, value):
    with pytest.raises(UserError) as refused:
        check_all(nested(key, value))
    assert refused.value.path == key or refused.value.path.startswith(f"{key}.")
    assert refused.value.remedy.startswith(("Give", "Valid are", "Did you mean", "In YAML"))
    assert len(str(refused.value)) < 1000


def test_there_are_rows_for_every_key():
    assert len(ROWS) > 1500 and len(leaves(SCHEMA)) > 150


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "threshold",
            50,
            "threshold: 50 is out of range. Give a number from 0 to 1 (probability from which a pixel is",
        ),
        ("threshold", math.nan, "threshold: nan is not a finite number. Give a number from 0 to 1"),
        ("threshold", "1e-3", "threshold: '1e-3' is text. In YAML, this number is written 0.001. Give a number"),
        ("training.learning_rate", "1e-9", "In YAML, this number is written 1.0e-09."),
        ("seed", -1, "seed: -1 is out of range. Give a whole number from 0 to 4294967295"),
        ("seed", 2**32, "seed: 4294967296 is out of range"),
        (
            "image_size",
            7,
            "image_size: 7 is out of range. Give 0 or a whole number from 256 to 8192 (side of generated",
        ),
        ("image_size", 100, "image_size: 100 is out of range"),
        ("methods_side", -5, "methods_side: -5 is out of range. Give a whole number from 16"),
        ("part_side", 1, "part_side: 1 is out of range. Give a whole number from"),
        ("training.patience", -3, "training.patience: -3 is out of range. Give a whole number from 0"),
        ("training.reduce_factor", 5, "training.reduce_factor: 5 is out of range. Give a number from 0.001 to 0.999"),
        ("training.clip_value", -1, "training.clip_value: -1 is out of range. Give a number from 0"),
        (
            "training.epochs",
            10**12,
            "training.epochs: 1000000000000 is out of range. Give a whole number from 1 to 10000",
        ),
        (
            "counting_images",
            {"trian": 3},
            "counting_images.trian: is not known. Did you mean train? Valid are train, test, valid",
        ),
        ("generated_images", {"train": "a"}, "generated_images.train: 'a' is text. Give a whole number from 1"),
        ("generated_images.train", 10**9, "generated_images.train: 1000000000 is out of range"),
        ("generated_images", {"train": 3, "test": 1}, "generated_images.valid: is missing. Give a whole number from 1"),
        (
            "model_settings.unet.levels",
            50,
            "model_settings.unet.levels: 50 is out of range. Give a whole number from 2 to 10",
        ),
        ("model_settings.unet.base_filters", 10**9, "model_settings.unet.base_filters: 1000000000 is out of range"),
        (
            "model_settings.unet",
            {"base_filters": 64, "levels": 10},
            "model_settings.unet.base_filters: 64 in 10 levels are",
        ),
        (
            "model_settings.unet",
            {"dropout": 0.3, "levels": 5},
            "unet.dropout: 0.3 in 5 levels drops everything in the deepest",
        ),
        ("model_settings.swin_unet.base_filters", 100, "swin_unet.base_filters: 100 is not a multiple of 32"),
        (
            "tiles.tile_size",
            10**6,
            "tiles.tile_size: 1000000 is out of range. Give 0 or a whole number from 16 to 4096",
        ),
        (
            "tiles.stride",
            1,
            "tiles.stride: 1 does not suit a tile_size of 512. Give 0 for no overlap, or from 32 to 512",
        ),
        ("tiles", {"tile_size": 64, "stride": 65}, "tiles.stride: 65 does not suit a tile_size of 64"),
        ("training", {"epochs": 3, "average_epochs": 4}, "training.average_epochs: 4 is out of range. Give 0 to 3"),
        ("models", ["unet", "unet"], "models: unet is there twice"),
        ("models", ["unet", "swin"], "models: 'swin' is not known. Did you mean swin_unet?"),
        ("scales", [1, 9], "scales: 9 is out of range. Give a list, each a number from 0.1 to 4"),
        ("augmentation.scale_range", [1.2, 0.8], "scale_range: the low end 1.2 lies above the high end 0.8"),
        ("treshold", 0.5, "treshold: is not known. Did you mean threshold? Valid are description"),
        ("training.epoch", 5, "training.epoch: is not known. Did you mean epochs? Valid are epochs"),
        ("training", 5, "training: 5 is a whole number. Give names with values; valid are epochs"),
        ("description", None, "description: has no value. Give text"),
        (
            "experiment",
            "../a",
            "experiment: '../a' is not a name. Give text (name of a training in notebook 3",
        ),
        ("experiment", "", "experiment: '' is not a name"),
        ("experiment", "a" * 41, "is not a name"),
        ("experiment", "a\n", "is not a name"),
    ],
)
def test_what_is_said(key, value, message):
    with pytest.raises(UserError) as refused:
        check_all(nested(key, value))
    assert message in str(refused.value)


def test_a_misspelt_name_is_told_before_anything_else():
    with pytest.raises(UserError, match="Did you mean threshold"):
        check_all({"seed": -1, "treshold": 0.5})


def test_whole_numbers_do_for_decimals_and_lists_become_tuples():
    checked = check_all({"threshold": 1, "augmentation": {"scale_range": [1, 2]}})
    assert type(checked.threshold) is float and checked.augmentation.scale_range == (1.0, 2.0)


def test_a_setting_is_a_dataclass_that_checks_itself():
    setting = TrainingSetting(5, 28, batch_size=4)
    assert (setting.epochs, setting.steps_per_epoch, setting.batch_size, setting.patience) == (5, 28, 4, 10)
    assert dataclasses.asdict(setting)["learning_rate"] == 1e-3 and setting == dataclasses.replace(setting)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setting.epochs = 6
    with pytest.raises(UserError, match="epochs: 0 is out of range"):
        dataclasses.replace(setting, epochs=0)
    with pytest.raises(UserError, match=r"training\.epochs: 0 is out of range"):
        read(TrainingSetting, {"epochs": 0}, "training")


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 0, 1])
def test_numbers_of_numpy_count_as_numbers(value):
    check_value(Parameters, "threshold", value)


# Parameters that must suit each other


SMALL = {"tiles": {"tile_size": 64}, "model": "unet", "model_settings": {"unet": {"levels": 3, "base_filters": 4}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tiles": {"tile_size": 50}},
            "tiles.tile_size: 50 is not a multiple of 4, which the poolings of unet ask for. ",
        ),
        ({"tiles": {"tile_size": 50}}, "Give 48 or 52 pixels"),
        ({"model_settings": {"unet": {"levels": 8}}}, "tiles.tile_size: 64 is not a multiple of 128"),
        (
            {"models": ["unet", "swin_unet"], "tiles": {"tile_size": 32}},
            "32 is not a multiple of 64, which the poolings of swin",
        ),
        ({"prediction": {"tile_size": 90}}, "prediction.tile_size: 90 is not a multiple of 4"),
        ({"joined_with": "smears"}, "joined_with: is smears, a network for images of one white, and white_balance is"),
        (
            {
                "model": "swin_unet",
                "model_settings": {"swin_unet": {"window": 3, "levels": 1}},
                "tiles": {"tile_size": 48},
                "prediction": {},
            },
            "model_settings.swin_unet: tiles must be multiples of 12 pixels, and notebook 6 lays",
        ),
        (
            {"counting_tile_size": 256, "counting_model": {"levels": 10, "base_filters": 1}},
            "counting_model.levels: tiles must be multiples of 512",
        ),
        (
            {"counting_tile_size": 0, "counting_model": {"levels": 10, "base_filters": 1}},
            "pixels, and notebook 8 cuts 128",
        ),
        (
            {"training": {"batch_size": 256, "validation_steps": 1}, "tiles": {"tile_size": 512}},
            "training.batch_size: 256",
        ),
        (
            {"training": {"batch_size": 60, "validation_steps": 1000}, "tiles": {"tile_size": 512}},
            "validation_steps: 1000",
        ),
        (
            {"comparison": {"batch_size": 256}, "tiles": {"tile_size": 512}},
            "comparison.batch_size: 256 tiles of 512 x 512",
        ),
        (
            {"counting": {"batch_size": 256, "validation_steps": 1000}, "counting_tile_size": 256},
            "counting.validation_steps: 1000",
        ),
    ],
)
def test_parameters_that_do_not_suit_each_other(changes, message):
    check_all(SMALL)
    with pytest.raises(UserError) as refused:
        check_all(SMALL | changes)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiles": {"tile_size": 50}}, "tiles.tile_size: 50 is not a multiple of 4"),
        (
            {"models": ["swin_unet"], "tiles": {"tile_size": 32}},
            "which the poolings of swin_unet, one of models, ask for",
        ),
        ({"prediction": {"mode": "exact", "tile_size": 32}}, "tile size 32: is all halo"),
        ({"prediction": {"mode": "blend", "tile_size": 64, "overlap": 64}}, "overlap 64: does not fit tiles of 64 px"),
        ({"comparison": {"batch_size": 257}}, "comparison.batch_size: 257 is out of range"),
        ({"counting_size": 7}, "counting_size: 7 is out of range"),
        ({"counting_model": {"levels": 1}}, "counting_model.levels: 1 is out of range"),
        ({"part_side": 1}, "part_side: 1 is out of range"),
    ],
)
def test_what_a_run_would_find_out_late_is_found_out_at_once(changes, message):
    with pytest.raises(UserError) as refused:
        report.check_parameters(presets.read_preset("smoke") | changes)
    assert message in str(refused.value)


def test_lessons_that_are_not_asked_for_do_not_hinder():
    given = presets.read_preset("smoke")
    for name in ("models", "comparison", "counting", "part_side"):
        given.pop(name)
    report.check_parameters(given | {"tiles": {"tile_size": 32}})  # too small for the Swin-Unet of notebook 7


# The schema agrees with what it describes


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ModelSettings)])
def test_settings_of_architectures_are_the_arguments_of_their_functions(name):
    arguments = inspect.signature(models.MODELS[name]).parameters
    settings = dataclasses.asdict(getattr(ModelSettings(), name))
    assert settings == {key: arguments[key].default for key in settings}
    assert set(arguments) - set(settings) <= {"seed", "deep_supervision", "interface"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unet", {"base_filters": 2, "levels": 3}),
        ("unet", {"base_filters": 2, "levels": 2, "patch_size": 4}),
        ("attention_unet", {"base_filters": 2, "levels": 3, "patch_size": 1}),
        ("multires_unet", {"base_filters": 4, "levels": 3, "patch_size": 2}),
        ("unet3_plus", {"base_filters": 2, "levels": 2, "patch_size": 8}),
        ("efficient_unet", {"base_filters": 1}),
        ("deeplab_v3_plus", {"encoder": "MobileNetV2", "filters": 4}),
        ("swin_unet", {"base_filters": 4, "levels": 2, "window": 3}),
    ],
)
def test_the_alignment_of_the_schema_is_that_of_the_network(name, settings):
    described = getattr(read(ModelSettings, {name: settings}), name)
    assert described.alignment == receptive_field(models.build_model(name, settings)).alignment


def test_names_in_the_schema_are_those_of_the_package():
    assert SCHEMA["$defs"]["TrainingSetting"]["properties"]["loss"]["enum"] == list(losses.LOSSES)
    assert SCHEMA["properties"]["model"]["enum"] == list(models.MODELS)


def test_the_schema_has_the_parameters_of_the_notebooks_with_their_defaults():
    defaults = report.default_parameters()
    assert set(fields_of(Parameters)) == {"description", *defaults}
    checked = Parameters()
    for name, value in defaults.items():
        if not isinstance(value, dict) and name != "models":
            assert getattr(checked, name) == value, name


# What is made of the schema


@pytest.mark.parametrize("name", PRESETS)
def test_editors_accept_every_preset(name):
    text = (presets.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.Draft202012Validator(json.loads(parameter_page.SCHEMA.read_text())).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "wrong", [{"threshold": 50}, {"seed": -1}, {"image_size": 7}, {"training": {"epoch": 3}}, {"model": "unett"}]
)
def test_editors_refuse_what_a_run_would(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads(parameter_page.SCHEMA.read_text())).validate(wrong)


def test_the_page_and_the_json_schema_are_those_of_the_schema():
    assert json.loads(parameter_page.SCHEMA.read_text(encoding="utf-8")) == parameter_page.json_schema()
    assert parameter_page.PAGE.read_text(encoding="utf-8") == parameter_page.page()


def test_every_field_says_what_it_is():
    for key, entry in leaves(SCHEMA):
        assert entry.get("description"), key


# Presets


PRESET_ROWS = {
    "in Latin-1": (
        "description: größer".encode("latin-1"),
        "is not text in UTF-8 (line 1). Save it in the encoding UTF-8",
    ),
    "UTF-16": ("seed: 1".encode("utf-16"), "is not text in UTF-8"),
    "binary": (bytes(range(256)), "is not text in UTF-8"),
    "with a zero byte": (b"seed: \x00", "holds characters that no text has"),
    "empty": (b"", "is empty. Write lines of the form name: value"),
    "with comments only": (b"# seed: 1\n", "is empty"),
    "a list": (b"- 1", "does not hold names and values"),
    "broken": (b"seed: 1\na: [1", "line 2: is not valid YAML (expected ',' or ']'"),
    "with tabs": (b"tiles:\n\ttile_size: 1", "line 2: is not valid YAML"),
    "with two documents": (b"a: 1\n---\nb: 2", "is not valid YAML"),
    "recursive": (b"tiles: &a {x: *a}", "line 1: a reference (*) refers to what it is part of"),
    "recursive at the top": (b"&a [*a]", "line 1: a reference (*) refers to what it is part of"),
    "with one name twice": (b"seed: 1\nthreshold: 1\nseed: 2", "line 3: seed is there twice. Keep one of the two"),
    "with one name twice below": (b"tiles:\n  tile_size: 1\n  tile_size: 2", "line 3: tile_size is there twice"),
    "with a name twice, quoted": (b'seed: 1\n"seed": 2', "line 2: seed is there twice"),
    "with a name twice in a list": (b"scales: [{a: 1, a: 2}]", "line 1: a is there twice"),
    "with references that grow": (
        b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (at + 1, at + 1, b", ".join([b"*%c" % at] * 10)) for at in range(97, 106)),
        "references (*) make more than 10000 values",
    ),
    "with a Python object": (b"seed: !!python/object/apply:os.getcwd []", "a value is of the kind os.getcwd"),
    "with a tag of its own": (b"seed: !mine 1", "a value is of the kind !mine"),
    "with a wrong tag": (b"seed: !!int foo", "'foo' is not what its tag says"),
    "with a date": (
        b"description: 2024-13-45",
        "a value is of the kind timestamp. Write a number, true, false or text",
    ),
    "with bytes": (b"seed: !!binary AAAA", "a value is of the kind binary"),
    "with half a character": (b'description: "\\ud800"', "a text holds half a character"),
    "with a list as name": (b"? [1]\n: 2", "a list or a table stands where a name should be"),
    "with thousands of digits": (b"seed: " + b"9" * 5000, "holds a number of thousands of digits"),
    "nested": (b"[" * 20000, "is nested too deeply"),
    "huge": (b"#" * 2**21, "is larger than a megabyte"),
    "with a run folder": (b"run_dir: elsewhere", "run_dir: does not belong into a preset. Use --run"),
    "with an experiment": (b"experiment: mine", "experiment: does not belong into a preset. Give it in notebook 3"),
}


@pytest.mark.parametrize("case", PRESET_ROWS)
def test_presets_that_are(tmp_path, case):
    content, message = PRESET_ROWS[case]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        presets.read_preset(str(path))
    assert message in str(refused.value) and str(path) in refused.value.path


def test_presets_that_are_no_files(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    rows = {"folder.yaml": "is a folder", "loop.yaml": "is not known", f"{'a' * 300}.yaml": "is not known"}
    for name, message in rows.items():
        with pytest.raises(UserError, match=message):
            presets.read_preset(str(tmp_path / name))
    for name in ("", ".", "a\0b", "nosuch", "a" * 300):
        with pytest.raises(UserError, match="Choose one of general, nuclei, original, quick"):
            presets.read_preset(name)


def test_a_preset_may_begin_with_a_byte_order_mark_and_repeat_a_section(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 2\r\ntraining: &same {epochs: 3}\r\ncomparison: {<<: *same, epochs: 2}\r\n")
    assert presets.read_preset(str(path)) == {"seed": 2, "training": {"epochs": 3}, "comparison": {"epochs": 2}}


@pytest.mark.parametrize("value", [128, 50, -6, math.nan, math.inf, None, "half"])
def test_a_preset_with_a_wrong_threshold_starts_nothing(tmp_path, value):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(presets.read_preset("smoke") | {"threshold": value}))
    with pytest.raises(UserError, match="threshold: "):
        report.make_report(tmp_path / "run", str(path))
    assert not (tmp_path / "run").exists()


# Notebooks run alone


OF_NOTEBOOKS = [
    (path.stem, name)
    for path in report.notebooks()
    for name in report.notebook_parameters(path)
    if name not in ("run_dir", "data_dir")
]


@pytest.mark.parametrize(("notebook", "name"), OF_NOTEBOOKS)
def test_a_notebook_checks_its_parameters_before_it_does_anything(tmp_path, monkeypatch, notebook, name):
    monkeypatch.chdir(tmp_path)
    cells = nbformat.read(report.NOTEBOOK_FOLDER / f"{notebook}.ipynb", as_version=4).cells
    first, second = [cell.source for cell in cells if cell.cell_type == "code"][:2]
    wrong = {"seed": -1, "image_size": 7, "threshold": 50, "counting_images": {"trian": 3}}.get(name, math.nan)
    space = {}
    exec(first, space)
    space |= {"run_dir": str(tmp_path / "run"), name: wrong}
    with pytest.raises(UserError) as refused:
        exec(second, space)
    assert refused.value.path.split(".")[0] == name
    assert not (tmp_path / "run").exists()


# The command line


PREDICTION = ["--preset", "--mode", "--tile-size", "--overlap", "--scales", "--memory-mib", "--threshold"]
OPTIONS = [
    *[
        (command, option, value)
        for command in ("predict", "evaluate", "instances")
        for option, value in [
            ("--threshold", "70"),
            ("--threshold", "128"),
            ("--threshold", "-1"),
            ("--threshold", "nan"),
            ("--threshold", "inf"),
            ("--threshold", "half"),
            ("--min-area", "-1"),
            ("--min-area", "1.5"),
            ("--min-area", "99999999999"),
        ]
    ],
    *[
        (command, option, value)
        for command in ("predict", "evaluate")
        for option, value in [
            ("--min-confidence", "50"),
            ("--min-confidence", "nan"),
            ("--scales", "0"),
            ("--scales", "nan"),
            ("--scales", "9"),
            ("--tile-size", "-1"),
            ("--tile-size", "1000000"),
            ("--tile-size", "big"),
            ("--overlap", "-1"),
            ("--overlap", "1000000"),
            ("--memory-mib", "0"),
            ("--memory-mib", "9999999"),
            ("--mode", "exakt"),
        ]
    ],
    ("evaluate", "--seed", "-1"),
    ("evaluate", "--seed", "4294967296"),
    ("predict", "--skip-contrast", "256"),
    ("data", "--seed", "-1"),
    ("data", "--seed", "99999999999"),
    ("data", "--size", "7"),
    ("data", "--size", "10000000"),
    ("data", "--train", "0"),
    ("data", "--test", "1000000000"),
    ("data", "--jpeg", "0"),
    ("data", "--jpeg", "101"),
    ("data", "--touching", "2"),
    ("data", "--touching", "nan"),
]
NEEDED = {
    "predict": ["predict", "model.keras", "a.png", "--out", "out"],
    "instances": ["instances", "a.png", "--out", "out"],
    "evaluate": ["evaluate", "model.keras", "data"],
    "data": ["data", "synthetic", "folder"],
}


@pytest.mark.parametrize(("command", "option", "value"), OPTIONS)
def test_options_out_of_range_are_wrong_usage(tmp_path, monkeypatch, capsys, command, option, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        command_line.parser({}).parse_args([*NEEDED[command], option, value])
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and f"argument {option}: " in error
    assert any(words in error for words in ("is out of range. Give", "is not a", "invalid choice"))


def test_help_has_range_and_default(capsys):
    with pytest.raises(SystemExit):
        command_line.parser({}).parse_args(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "probability from which a pixel is foreground; a number from 0 to 1 (default: 0.5)" in text


# Functions that users call


@pytest.mark.parametrize("threshold", [50, -1, math.nan, math.inf, None, "0.5", True])
def test_functions_refuse_thresholds_out_of_range(tmp_path, threshold):
    maps = np.zeros((4, 4), np.float32)
    np.save(tmp_path / "maps.npy", maps)
    calls = (
        lambda: find_foreground(maps, threshold),
        lambda: label_image(maps, threshold=threshold),
        lambda: label_file(tmp_path / "maps.npy", tmp_path / "out.tif", threshold=threshold),
    )
    for call in calls:
        with pytest.raises(UserError, match="threshold: "):
            call()
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": -1}, "overlap: -1 is out of range"),
        ({"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"memory_mib": 0}, "memory_mib: 0 is out of range"),
        ({"memory_mib": math.nan}, "memory_mib: nan is not a finite number"),
    ],
)
def test_functions_refuse_predictions_out_of_range(wrong, message):
    network = models.build_model("unet", {"base_filters": 1, "levels": 2})
    with pytest.raises(UserError, match=message):
        plan_prediction(network, (64, 64), **wrong)


def test_functions_refuse_scales_out_of_range():
    with pytest.raises(UserError, match="scales: 9 is out of range"):
        multi_scale(np.asarray, (1, 9))


def test_own_architectures_are_checked_by_their_names():
    def own(filters: int = 3, seed: int = 0):
        raise ValueError("not built")

    models.MODELS["own"] = own
    try:
        with pytest.raises(UserError, match=r"model_settings\.own: filter: is not known\. Did you mean filters"):
            models.build_model("own", {"filter": 1})
    finally:
        del models.MODELS["own"]


def test_own_architectures_without_an_interface_are_refused_for_classes(monkeypatch):
    monkeypatch.setitem(models.MODELS, "own", lambda seed=0: None)
    classes = Classes((0, 1, 2), ("background", "cell", "nucleus"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)))
    with pytest.raises(UserError, match=r"model own: takes RGB .* Give its function a parameter"):
        models.build_model("own", interface=Interface(classes=classes))


def test_the_tiles_of_notebook_7_are_those_that_are_checked():
    assert parameters.Parameters().counting_tile_size == 256 and TileSetting().tile_size == 512
