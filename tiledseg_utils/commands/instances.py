"""The command `instances`: from images, or from their probability maps, to labelled and counted nuclei."""

from pathlib import Path

from ..base.files import UserError
from ..base.paths import IMAGE_SUFFIXES, Output, model_path
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import add_option, fields_of
from .batch import IMAGES_HELP, PROBABILITY_SUFFIXES, check_outputs, expand_images
from .exports import Exports, add_export_options
from .options import add_cluster_option, add_command, add_part_options, part_of_file
from .remembered import but_for, remembered_counting

FORMATS = ("tif", "ome.tif", "ome.zarr")
VIEWS = "test_time_augmentation"


def add(commands) -> None:
    command = add_command(commands, "instances", "label and count the nuclei of images")
    about = f"{IMAGES_HELP}; without --model, .tif or .npy files of predict --probability instead of images"
    command.add_argument("images", type=Path, nargs="+", metavar="image", help=about)
    command.add_argument("--model", type=model_path, help="a model.keras, or instances.keras, of a run, or smears")
    command.add_argument("--out", type=Path, required=True, help="folder for <stem>.tif, labels from 1")
    command.add_argument(
        "--method",
        choices=["components", "watershed", "boundary", "flow", "combined", "rays"],
        help="how nuclei that touch are told apart; by default as the run of instances.keras did, or flow if "
        "its file does not say; else watershed",
    )
    options = (
        (Parameters, "threshold", "--threshold"),
        (CommandSetting, "nucleus_area", "--min-area"),
        (CommandSetting, "flow_threshold", "--flow-threshold"),
    )
    for cls, name, flag in options:
        field = fields_of(cls)[name]
        about = f"{field.description}; by default as the run of instances.keras did, else {field.default}"
        add_option(command, cls, name, flag, dest=flag[2:].replace("-", "_"), default=None, help=about)
    about = f"{fields_of(PredictionSetting)[VIEWS].description}; by default as the run of instances.keras did"
    add_option(command, PredictionSetting, VIEWS, default=None, help=about)
    about = "leave out the image twice as large where the model sees two scales: a fifth of the time, but more small "
    command.add_argument("--one-scale", action="store_true", help=f"{about}nuclei are missed or merged")
    command.add_argument(
        "--format",
        choices=FORMATS,
        default="tif",
        help="of the labels: TIFF with ImageJ's description, OME-TIFF, or OME-Zarr",
    )
    add_option(command, CommandSetting, "ome_zarr")
    add_part_options(command)
    add_cluster_option(command)
    add_export_options(command)
    command.add_argument("--overwrite", action="store_true", help="replace results that are there")
    command.set_defaults(function=instances, needs_keras=True)


def instances(arguments) -> None:
    """Label the nuclei of images one by one; what this command finished before is left as it is."""
    suffixes = IMAGE_SUFFIXES if arguments.model else PROBABILITY_SUFFIXES
    arguments.images = expand_images(arguments.images, arguments.out, suffixes)
    labels = {path: arguments.out / f"{path.stem}.{arguments.format}" for path in arguments.images}
    exports = Exports(arguments, labels)
    results = [Output(out, f"the label image of {path.name}") for path, out in labels.items()]
    check_outputs(arguments, results + exports.outputs())
    if arguments.overlay and not arguments.model:
        problem = "shows nuclei in their image, and without --model a map of probabilities is given"
        raise UserError("--overlay", problem, "Give the images and --model, or leave it out")
    if arguments.one_scale and not arguments.model:
        raise UserError("--one-scale", "says how a model sees images, and --model is not given", "Leave it out")
    exports.check()

    from ..models.instance_unet import INSTANCE_CHANNELS
    from ..models.two_scales import one_scale_model
    from ..prediction.cluster import connect
    from ..prediction.inference import load_model
    from ..prediction.instances import label_file

    model = load_model(arguments.model, (1, *INSTANCE_CHANNELS)) if arguments.model else None
    rule = _rule(model, arguments)
    model = one_scale_model(model) if arguments.one_scale else model

    def work(path: Path, cluster) -> dict:
        part = part_of_file(path, arguments)
        about = {**rule, **exports.about(path, [part]), "overwrite": arguments.overwrite, "cluster": cluster}
        nuclei = label_file(part, labels[path], model, mode="auto", ome_zarr=arguments.ome_zarr, **about)
        exports.write(path, part)
        return {"image": path.name, "nuclei": nuclei, "labels": labels[path]}

    with connect(arguments.cluster) as cluster:
        exports.run(lambda path: work(path, cluster))


def _rule(model, arguments) -> dict:
    """How nuclei are told apart, and in how many views maps are predicted: as given, as a model remembers, or as usual.

    Raises:
        UserError: what the model remembers is not what these options take.
    """
    from ..models.two_scales import sees_two_scales
    from ..prediction.dividing import METHODS

    usual = {
        "method": "flow" if model and model.output_shape[-1] > 1 else "watershed",
        "threshold": fields_of(Parameters)["threshold"].default,
        "min_area": fields_of(CommandSetting)["nucleus_area"].default,
        "flow_threshold": fields_of(CommandSetting)["flow_threshold"].default,
        VIEWS: fields_of(PredictionSetting)[VIEWS].default,
    }
    given = {name: getattr(arguments, name) for name in usual if getattr(arguments, name) is not None}
    if model is None or given.keys() == usual.keys():
        return usual | given
    known = remembered_counting(model, arguments.model, METHODS)
    rule = usual | known | given
    if known:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule.items() if name != VIEWS)
        words += ", 8 views" if rule[VIEWS] else ", 1 view"
        two_scales = sees_two_scales(model)
        words += ", each at two scales" if two_scales and not arguments.one_scale else ""
        changed = [name for name in given if rule[name] != known.get(name)]
        changed += ["one_scale"] if two_scales and arguments.one_scale else []
        print(f"counted as its run did{but_for(changed, 'as given')}: {words}; options change that")
    return rule
