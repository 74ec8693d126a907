"""The command `export`: a trained network in a form that other programs open."""

import os
from pathlib import Path

from ..base.files import UserError, atomic_path
from ..base.paths import Output, check_paths, model_path
from ..base.text import printable
from .options import add_command

SUFFIXES = {"onnx": ".onnx", "bioimageio": ".zip"}


def add(commands) -> None:
    command = add_command(commands, "export", "write a model for other programs")
    command.add_argument("model", type=model_path, help="a model.keras or instances.keras of a run, or smears")
    command.add_argument(
        "--format",
        choices=[*SUFFIXES],
        default="onnx",
        help="onnx: the network alone; bioimageio: a package of the BioImage Model Zoo around it",
    )
    command.add_argument("--out", type=Path, required=True, help="file to write, .onnx or .zip (bioimageio)")
    command.add_argument("--author", help="bioimageio: who made the model")
    command.add_argument("--license", help="bioimageio: licence of the model, as SPDX names it, such as Apache-2.0")
    about = "bioimageio: picture whose middle is the example of the package; without it, a generated smear"
    command.add_argument("--sample", type=Path, help=about)
    command.add_argument("--overwrite", action="store_true", help="replace a file that is already there")
    command.set_defaults(function=export, needs_keras=True)


def export(arguments) -> None:
    _check(arguments)
    from ..models.instance_unet import INSTANCE_CHANNELS
    from ..models.model_files import load_model
    from ..models.onnx_file import require_onnx, save_onnx

    require_onnx()
    model = load_model(arguments.model, (1, *INSTANCE_CHANNELS), classes=True)
    with atomic_path(arguments.out) as temporary:
        if arguments.format == "onnx":
            difference = save_onnx(model, temporary)
        else:
            difference = _package(model, temporary, arguments)
    print(f"{printable(arguments.out)}: differs from Keras by at most {difference:.1g}")
    print(_rule(model))


def _check(arguments) -> None:
    """Refuse what can be refused before Keras starts."""
    out, suffix = arguments.out, SUFFIXES[arguments.format]
    if out.suffix.lower() != suffix:
        raise UserError(out, f"does not end in {suffix}, as {arguments.format} files do", f"Give a name with {suffix}")
    read = [arguments.model, arguments.sample] if arguments.sample else [arguments.model]
    check_paths(read, [Output(out, "the exported model")])
    if os.path.lexists(out) and not arguments.overwrite:
        raise UserError(out, "exists already", "Choose another --out, or replace it with --overwrite")
    package_only = {"--author": arguments.author, "--license": arguments.license, "--sample": arguments.sample}
    for option, value in package_only.items():
        if value and arguments.format != "bioimageio":
            raise UserError(option, "belongs to a package", "Leave it out, or give --format bioimageio")
    for option in ("--author", "--license"):
        if arguments.format == "bioimageio" and not package_only[option]:
            raise UserError(option, "is missing, and every package of the zoo tells it", f"Give {option}")


def _package(model, path: Path, arguments) -> float:
    from ..data.images import read_image
    from ..prediction.bioimageio import write_package

    picture = read_image(arguments.sample) if arguments.sample else None
    letters = (letter if letter.isalnum() or letter in " _-" else " " for letter in arguments.model.stem)
    name = f"tiledseg {''.join(letters)}"[:64].strip()
    return write_package(model, path, name, arguments.author, arguments.license, picture)


def _rule(model) -> str:
    """What another program must know of the network."""
    from ..models.inputs import normalization_of
    from ..models.receptive_field import receptive_field

    field = receptive_field(model)
    halo = "no halo makes its tiles exact" if field.non_local_layers else f"tiles need a halo of {field.halo} px"
    words = [f"sides of an image are multiples of {field.alignment} px", halo]
    if method := normalization_of(model):
        words.append(f"the {method.replace('_', ' ')} of whole images is not in the file, and comes first")
    return "; ".join(words)
