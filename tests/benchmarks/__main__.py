"""The benchmarks: `python -m tests.benchmarks NAME --help`. Run them while nothing else is running."""

import argparse
import sys
from pathlib import Path

from tiledseg_utils.base.files import UserError


def number(low: int):
    """An argument type: a whole number from `low` on."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is not from {low} on")
        return value

    return parse


def inference(arguments) -> None:
    from .inference import benchmark  # Imported here, as below, so that the list appears at once.

    benchmark(arguments.size, arguments.rounds, arguments.out)


def memory(arguments) -> None:
    from .memory import benchmark

    shapes = [(rows, arguments.columns) for rows in arguments.rows]
    further = [(side, side) for side in arguments.square]
    benchmark(shapes, further, arguments.out, "jpeg" if arguments.jpeg else None, arguments.tiny)


def cluster(arguments) -> None:
    from .cluster import benchmark, memory_benchmark

    if arguments.heights:
        memory_benchmark(arguments.heights, arguments.size, arguments.workers, arguments.out)
    else:
        benchmark(arguments.size, arguments.workers, arguments.rounds, arguments.out)


def exactness(arguments) -> None:
    from .exactness import benchmark

    benchmark(arguments.levels, arguments.out)


def augmentation(arguments) -> None:
    from .augmentation import benchmark

    benchmark(arguments.size, arguments.samples, arguments.rounds, arguments.out)


def training(arguments) -> None:
    from .training import benchmark

    benchmark(arguments.networks, arguments.steps, arguments.rounds, arguments.gpu, arguments.out)


def accuracy(arguments) -> None:
    from .accuracy import benchmark

    benchmark(arguments.data, arguments.preset, arguments.seeds, arguments.every, arguments.out)


def matching(arguments) -> None:
    from .matching import benchmark

    benchmark(arguments.size, arguments.count, arguments.out)


def parser() -> argparse.ArgumentParser:
    """The arguments of every benchmark."""
    defaults = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    main_parser = argparse.ArgumentParser("python -m tests.benchmarks", description="Speed and memory, measured.")
    commands = main_parser.add_subparsers(title="benchmarks")

    command = commands.add_parser("inference", help="speed beside MONAI, on one image in memory", **defaults)
    command.add_argument("--size", type=number(16), default=2096, help="side of the image, pixels")
    command.add_argument("--rounds", type=number(1), default=3, help="how often each way is timed")
    command.add_argument("--out", type=Path, default="runs/benchmarks/inference.json")
    command.set_defaults(function=inference)

    command = commands.add_parser("memory", help="memory that files of growing height take", **defaults)
    command.add_argument("--rows", type=number(1), nargs="*", default=[4096, 8192, 16384, 32768], help="heights")
    command.add_argument("--columns", type=number(1), default=8192, help="width of these images, pixels")
    command.add_argument("--square", type=number(1), nargs="+", default=[], metavar="SIDE", help="further images")
    command.add_argument("--jpeg", action="store_true", help="compress the tiles of the images")
    command.add_argument("--tiny", action="store_true", help="with a tiny network, for large images")
    command.add_argument("--out", type=Path, default="runs/benchmarks/memory.json")
    command.set_defaults(function=memory)

    command = commands.add_parser("cluster", help="several workers beside one", **defaults)
    command.add_argument("--size", type=number(512), default=12288, help="side of the image, pixels")
    command.add_argument("--workers", type=number(2), default=2, help="to compare with one")
    command.add_argument("--heights", type=number(512), nargs="+", help="measure memory for these heights instead")
    command.add_argument("--rounds", type=number(1), default=3, help="how often each is timed")
    command.add_argument("--out", type=Path, default="runs/benchmarks/cluster.json")
    command.set_defaults(function=cluster)

    command = commands.add_parser("exactness", help="how far exact tiles are off the whole image", **defaults)
    command.add_argument("--levels", type=number(2), nargs="+", default=[2, 3, 4, 5, 6], help="of the U-Nets")
    command.add_argument("--out", type=Path, default="runs/benchmarks/exactness.json")
    command.set_defaults(function=exactness)

    command = commands.add_parser("augmentation", help="augmented tiles a second beside albumentations", **defaults)
    command.add_argument("--size", type=number(16), default=512, help="side of the tile, pixels")
    command.add_argument("--samples", type=number(1), default=100, help="tiles per round")
    command.add_argument("--rounds", type=number(1), default=5, help="how often each way is timed")
    command.add_argument("--out", type=Path, default="runs/benchmarks/augmentation.json")
    command.set_defaults(function=augmentation)

    command = commands.add_parser("training", help="a training step beside TensorFlow and PyTorch", **defaults)
    networks = {"choices": ["course", "gpu", "original"], "default": ["course", "original"]}
    command.add_argument("--networks", nargs="+", help="whose step is timed", **networks)
    command.add_argument("--steps", type=number(1), default=3, help="steps per round")
    command.add_argument("--rounds", type=number(1), default=5, help="how often each way is timed")
    command.add_argument("--gpu", action="store_true", help="on a GPU, in bfloat16, beside PyTorch's compiled network")
    command.add_argument("--out", type=Path, default="runs/benchmarks/training.json")
    command.set_defaults(function=training)

    command = commands.add_parser("accuracy", help="test Dice by minutes of training, for several seeds", **defaults)
    command.add_argument("data", type=Path, help="folder of images and masks")
    command.add_argument("--preset", default="standard", help="name, or path of a YAML file")
    command.add_argument("--seeds", type=number(0), nargs="+", default=[1, 2, 3], help="one training for each")
    command.add_argument("--every", type=number(1), default=7, help="the model of every so many epochs is scored")
    command.add_argument("--out", type=Path, default="runs/benchmarks/accuracy.json")
    command.set_defaults(function=accuracy)

    command = commands.add_parser("matching", help="scoring the nuclei of a whole slide", **defaults)
    command.add_argument("--size", type=number(16), default=16384, help="side of the image, pixels")
    command.add_argument("--count", type=number(1), default=100_000, help="nuclei")
    command.add_argument("--out", type=Path, default="runs/benchmarks/matching.json")
    command.set_defaults(function=matching)
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark, or list them, and return the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        parsed.function(parsed) if "function" in parsed else parser().print_help()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
