"""Whether a network is joined with one of the package: only where that one can judge its images, too."""

import numpy as np

from ..base.files import UserError
from ..base.paths import BOX
from ..data import provenance
from ..models.backend import keras
from ..models.inputs import images_learnt_from, normalization_of, remember_images
from ..models.interface import USUAL, Interface
from ..models.joined import joined_model
from ..models.model_files import load_model
from ..scoring.pixels import Counts, count_pixels
from ..settings.parameters import ALONE
from .batches import ValidationBatches

TOLERATED = 0.02
"""Dice of the validation tiles by which the mean may be worse: chance moves it, and the gain is in rare mistakes."""


def model_to_join(name: str, interface: Interface, normalization: str | None, reduction: int) -> keras.Model | None:
    """The model of the package that is called `name`, if it takes and predicts what a network of these tiles does.

    None if `name` is "none". None, too, and a line that says why, if the network tells classes apart or sees reduced
    images: a preset names a model for all data.

    Raises:
        UserError: the tiles were normalized in another way than the images that the model learnt from.
    """
    if name == ALONE:
        return None
    if interface != USUAL or reduction != 1:
        print(f"{name} knows RGB images in full size and foreground alone, so the network is not joined with it")
        return None
    other = load_model(BOX / f"{name}.keras")
    if normalization_of(other) != normalization:
        problem = f"is {name}, which learnt from images normalized by {normalization_of(other)}, "
        problem += f"and these tiles were normalized by {normalization}"
        raise UserError("joined_with", problem, f"Give {ALONE}, or normalize them so in lesson 1 (tiles)")
    return other


def joined_if_it_suits(network: keras.Model, other: keras.Model, validation: ValidationBatches) -> keras.Model:
    """The mean of both, or the network alone where validation tiles show that the other does not know such images.

    Prints the pooled Dice of these tiles by either, at a threshold of 0.5, and what follows from it.
    """
    joined = joined_model(network, other)
    alone, both = (_dice(model, validation) for model in (network, joined))
    suits = both >= alone - TOLERATED
    then = "they are joined" if suits else "it stays alone"
    print(f"Dice of validation tiles: {alone:.3f} by the network, {both:.3f} joined with another; {then}", flush=True)
    if not suits:
        return network
    remember_images(joined, provenance.both(images_learnt_from(network), images_learnt_from(other)))
    return joined


def _dice(model: keras.Model, validation: ValidationBatches) -> float:
    total, size = Counts(0, 0, 0, 0), validation.setting.batch_size
    for start in range(0, len(validation.images), size):
        probability = model.predict_on_batch(validation.images[start : start + size])
        total += count_pixels(np.asarray(probability) >= 0.5, validation.targets[start : start + size] >= 0.5)
    return total.dice
