"""How the run that trained a model used it, as the model file remembers it.

A model file may come from anywhere. So what it remembers is checked as the options are that it stands for.
"""

import argparse
from pathlib import Path

from ..base.files import UserError
from ..base.text import printable
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.remembered import PREDICTION
from ..settings.schema import check_value, fields_of, shown

NORMALIZED = {"white_balance": "white balanced", "contrast": "contrast stretched"}

IN_MEMORY = ("scales", "min_area", "min_confidence")
"""Options of `predict` that need the whole image in memory."""


def as_its_run_did(model, arguments: argparse.Namespace, by_rows: bool = False) -> argparse.Namespace:
    """The arguments of `predict` or `evaluate`, with what a model remembers for options that are not given.

    With --preset, the model is not asked. Prints a line that says how images are predicted, and why so.

    Args:
        by_rows: whether images are predicted row by row; options that need the whole image are then left out.

    Raises:
        UserError: what the model remembers is not what these options take.
    """
    if arguments.prediction_preset:
        preset = printable(arguments.prediction_preset)
        print(f"predicted as a run of {preset} does: {how(model, arguments)}; options change that")
        return arguments
    known = remembered_prediction(model, arguments.model)
    if known is None:
        print(f"how the model's run predicted is unknown, as its file does not say: {how(model, arguments)} is used")
        return arguments
    left_out = [name for name in IN_MEMORY if by_rows and known.get(name, _usual(name)) != _usual(name)]
    known = {name: value for name, value in known.items() if name not in left_out}
    again = vars(arguments.parse_again(known))  # Options that are given win over defaults.
    arguments = argparse.Namespace(**{**vars(arguments), **{name: again[name] for name in known}})
    changed = [name for name in known if again[name] != known[name]]
    but = but_for(changed, "as given") + but_for(left_out, "which would need the whole image in memory")
    print(f"predicted as its run did{but}: {how(model, arguments)}; --preset or options change that")
    return arguments


def how(model, arguments: argparse.Namespace) -> str:
    """How images are predicted, in words."""
    from ..models.inputs import channels_of, classes_of, normalization_of
    from ..models.reduced import reduction_of

    sizes = " and ".join(f"{size:g}" for size in arguments.scales)
    words = ["8 views" if arguments.test_time_augmentation else "1 view"]
    words += [f"size{'s' if len(arguments.scales) > 1 else ''} {sizes}", f"threshold {arguments.threshold:g}"]
    words += [f"pieces of {arguments.min_area} px or more"] if arguments.min_area else []
    words += [f"of confidence {arguments.min_confidence:g} or more"] if arguments.min_confidence else []
    if arguments.non_tiled:
        words.append(f"the whole image reduced to one tile of {arguments.non_tiled} px")
    else:
        words += [f"mode {arguments.mode}"]
        words += [f"tiles of {arguments.tile_size} px"] if arguments.tile_size else []
    normalization = normalization_of(model)
    words += [NORMALIZED[normalization]] if normalization else []
    reduction = reduction_of(model)
    words += [f"by a network that sees the image reduced by {reduction}"] if reduction > 1 else []
    channels = channels_of(model)
    words += [f"channels {' '.join(map(str, channels.numbers))} as stored ({channels.dtype})"] if channels else []
    classes = classes_of(model)
    words += [f"classes {', '.join(classes.names[1:])}"] if classes else []
    return ", ".join(words)


def remembered_prediction(model, path: Path) -> dict | None:
    """The options of `predict` that a model remembers, checked; None if it remembers none."""
    fields = {name: (owner, name) for name, owner in PREDICTION.items()}
    return _remembered(model, path, "predict", fields, "Give --preset, and the model is not asked")


def remembered_counting(model, path: Path, methods) -> dict:
    """The options of `instances` that a model remembers, checked; empty if it remembers none.

    Args:
        methods: those that are known.
    """
    fields = {
        "method": None,
        "threshold": (Parameters, "threshold"),
        "min_area": (CommandSetting, "nucleus_area"),
        "flow_threshold": (CommandSetting, "flow_threshold"),
        "test_time_augmentation": (PredictionSetting, "test_time_augmentation"),
    }
    options = "--method, --threshold, --min-area, --flow-threshold and --[no-]test-time-augmentation"
    remedy = f"Give {options}, and the model is not asked"
    known = _remembered(model, path, "instances", fields, remedy) or {}
    if "method" in known and known["method"] not in list(methods):
        raise UserError(path, f"remembers a method that is not known ({shown(known['method'])})", remedy)
    return known


def _remembered(model, path: Path, command: str, fields: dict, remedy: str) -> dict | None:
    """What a model remembers for a command, if each name is one of `fields`, and its value is what that field takes."""
    from ..models.inputs import remembered_options

    options = remembered_options(model)
    if options is None:
        return None
    known = options.get(command) if isinstance(options, dict) else options
    if isinstance(options, dict) and known is None:
        return None
    if not isinstance(known, dict):
        raise UserError(path, f"remembers no options of {command} but {shown(known)}", remedy)
    for name, value in known.items():
        if name not in fields:
            raise UserError(path, f"remembers an option that is not known ({shown(name)})", remedy)
        if fields[name] is not None:
            owner, field = fields[name]
            try:
                check_value(owner, field, value)
            except UserError as error:
                raise UserError(path, f"remembers a {name} that cannot be: {error.problem}", remedy) from error
    return known


def _usual(name: str):
    return fields_of(Parameters)[name].get_default(call_default_factory=True)


def but_for(names: list[str], why: str) -> str:
    """The end of a sentence that excepts some options; empty if there are none."""
    options = " and ".join(f"--{name.replace('_', '-')}" for name in names)
    return f", but for {options}, {why}" if names else ""
