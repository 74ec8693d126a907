"""Make the model that comes with the package, from its recipe: `make box`, or `python -m tiledseg_utils.training.box`.

The recipe is the preset `smears`. It asks for generated images alone, so that the model is free like the rest of the
project. On the same machine it gives the same weights, bit for bit; another kind of processor rounds otherwise.
"""

import functools
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..base.files import hash_file
from ..data import synthetic
from ..data.images import find_pairs, read_pair, split_pairs
from ..models.model_files import load_model
from ..prediction.inference import multi_scale, predict_tiled
from ..prediction.instances import label_image
from ..scoring.matching import match_instances, summarize_matches
from ..scoring.pixels import score_images, summarize
from ..settings.parameters import Parameters, check_all
from ..settings.presets import read_preset
from ..settings.remembered import options_of
from ..tiles import tiling
from .fit import train

NAME = "smears"
VARIED_SERIES = 500_000_000  # added to the seed of varied smears that the network is scored on


def recipe_hash() -> str:
    """SHA-256, in hex, of all that decides about the model: the preset, and the version of the drawn images."""
    preset = {name: value for name, value in read_preset(NAME).items() if name != "description"}
    recipe = {"preset": preset, "drawing": synthetic.DRAWING, "variation": synthetic.VARIATION}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def counting_rule(parameters: Parameters) -> dict:
    """How nuclei that touch are told apart, see `instances.label_image`."""
    rule = {"threshold": parameters.threshold, "min_area": parameters.min_area}
    return {"method": "watershed", **rule, "flow_threshold": 0.0}


def make(run: Path) -> Path:
    """Draw the images, cut them into tiles, train the network, and return the path of its file, `<run>/smears.keras`.

    Called again after an interruption, it goes on with the epoch that was interrupted.

    Raises:
        UserError: the folder holds the images or the training of another recipe.
    """
    parameters = check_all(read_preset(NAME))
    size, seed = parameters.image_size or None, parameters.seed
    synthetic.write_dataset(run / "data", seed, asdict(parameters.generated_images), size=size)
    splits = split_pairs(find_pairs(run / "data"), run / "data", seed)
    added = synthetic.added_pairs(run / "added", seed, parameters.added_images, size)
    if not (run / "tiles" / tiling.MANIFEST).exists():
        learnt = {"train": splits["train"], "valid": splits["valid"], tiling.ADDED: added}
        tiling.write_tile_set(learnt, run / "tiles", parameters.tiles)
    settings = asdict(getattr(parameters.model_settings, parameters.model))
    options = options_of(parameters) | {"instances": counting_rule(parameters), "recipe": recipe_hash()}
    train(run, parameters.model, settings, asdict(parameters.augmentation), parameters.training, seed, options=options)
    path = run / f"{NAME}.keras"
    (run / "model.keras").replace(path)
    return path


def scores(path: Path, run: Path) -> dict[str, float]:
    """What the model card tells: mean Dice of generated test images, plain and varied, and F1 of cells that touch.

    Args:
        path: of the model.
        run: folder of `make`; further images are drawn into it.
    """
    parameters, model = check_all(read_preset(NAME)), load_model(path)
    kept = {name: getattr(parameters, name) for name in ("threshold", "min_area", "min_confidence")}
    predict = functools.partial(predict_tiled, model, setting=parameters.prediction)
    segment, found = multi_scale(predict, parameters.scales), {}
    count, seed, size = parameters.generated_images.test, parameters.seed, parameters.image_size or None
    synthetic.write_dataset(run / "varied", seed + VARIED_SERIES, {"test": count}, size, varied=True)
    synthetic.write_dataset(run / "touching", seed + 1, {"test": count}, size=768, touching=0.7)
    tested = {
        "as they are": split_pairs(find_pairs(run / "data"), run / "data", seed)["test"],
        "varied": find_pairs(run / "varied"),
    }
    for name, pairs in tested.items():
        found[f"Dice, {name}"] = summarize(score_images(segment, pairs, **kept)[1])["dice"]["mean"]
    matches = {}
    for pair in find_pairs(run / "touching"):
        image, labels = read_pair(pair, labels=True)
        matches[pair.stem] = match_instances(label_image(predict(image), **counting_rule(parameters)), labels)
    return found | {"F1, touching": summarize_matches(matches)["f1"]["mean"]}


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/box")
    path = make(run)
    print(f"{path}: {path.stat().st_size} bytes, SHA-256 {hash_file(path)}, recipe {recipe_hash()}")
    for name, score in scores(path, run).items():
        print(f"{name}: {score:.4f}")


if __name__ == "__main__":
    main()
