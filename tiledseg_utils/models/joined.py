"""Models that are the mean of two networks which have learnt from different images.

What only one of them takes for a cell gets a low probability. Such means have long been known to err less than their
parts (Hansen and Salamon, IEEE TPAMI 1990, doi:10.1109/34.58871). As in `reduced`, the two are parts of one model. So
everything that knows layers also knows what tiles it needs, and whoever has the file predicts as its run did.
"""

from .backend import keras
from .two_scales import WeightedMean


def joined_model(network: keras.Model, other: keras.Model) -> keras.Model:
    """The mean of the probabilities of two models for the same image, (N, H, W, C) uint8 to (N, H, W, 1) float32.

    The two are parts of it, not copies.
    """
    image = keras.Input((None, None, network.input_shape[-1]), dtype="uint8", name="image")
    # Within a model, no two parts may have the same name.
    parts = [keras.Model(part.input, part.output, name=f"network_{n}") for n, part in enumerate((network, other), 1)]
    mean = WeightedMean(0.5, dtype="float32", name="mean_of_networks")([part(image) for part in parts])
    return keras.Model(image, mean, name=f"{network.name}_joined")
