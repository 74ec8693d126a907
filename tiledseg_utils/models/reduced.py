"""Models that see a smaller copy of the image: for objects so large that the network would see only parts of them.

The reduction is a part of the model. Pixels are averaged in blocks in front of the network, and its probabilities are
spread out after it, on straight lines. So everything that knows layers also knows what tiles such a model needs, and
whoever has the file alone cannot give it an image of the wrong scale.
"""

from .backend import keras, layers, ops
from .foreground import foreground_of, is_view


@keras.saving.register_keras_serializable("tiledseg")
class BlockMean(layers.Layer):
    """The mean of each block of `size` x `size` pixels: (N, H, W, C) uint8 to (N, H/size, W/size, C) uint8."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        means = ops.average_pool(ops.cast(inputs, "float32"), self.size, self.size, "valid")
        return ops.cast(ops.round(means), "uint8")  # As the tiles were that the network learnt from.

    def compute_output_spec(self, inputs):
        n, height, width, channels = inputs.shape
        shape = (n, height and height // self.size, width and width // self.size, channels)
        return keras.KerasTensor(shape, dtype="uint8")

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def reduced_model(network: keras.Model, reduction: int) -> keras.Model:
    """A model of an image from a network that takes it smaller by `reduction`, a whole number.

    The network is a part of it, not a copy. With a reduction of 1, it is returned as it is.
    """
    if reduction == 1:
        return network
    image = keras.Input((None, None, network.input_shape[-1]), dtype="uint8", name="image")
    probability = network(BlockMean(reduction, name="reduced")(image))
    # Probabilities are float32 whatever the policy, as those of the network.
    enlarged = layers.UpSampling2D(reduction, interpolation="bilinear", dtype="float32", name="enlarged")(probability)
    return keras.Model(image, enlarged, name=f"{network.name}_reduced")


def network_within(model: keras.Model) -> keras.Model:
    """The network of a `reduced_model`, which takes the image smaller; any other model is returned as it is."""
    if any(isinstance(layer, BlockMean) for layer in model.layers):
        network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        return foreground_of(network) if is_view(model) else network
    return model


def reduction_of(model: keras.Model) -> int:
    """By how much a model reduces its images; 1 for most."""
    return next((layer.size for layer in model.layers if isinstance(layer, BlockMean)), 1)
