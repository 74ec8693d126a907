"""What models do first with their pixels, so that no caller can feed a trained model the wrong colours.

Balancing the white is not among it, as a model sees tiles and the white belongs to the whole image. But models remember
whether their training images were balanced (`expects_white_balance`), and `inference` does it for those.
"""

from ..backend import keras, layers, ops


class _Input(layers.Layer):
    """`white_balance`: whether the pixels come from images that `white_balance.balance_white` went over."""

    def __init__(self, white_balance: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.white_balance = white_balance

    def get_config(self):
        return {**super().get_config(), "white_balance": self.white_balance}

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("tiledseg")
class ColorInput(_Input):
    """uint8 RGB to float in [0, 1], as RGB or HSV.

    Args:
        color_space: "rgb" or "hsv" (hue, saturation and value, each in [0, 1]).
    """

    def __init__(self, color_space: str = "rgb", **kwargs):
        super().__init__(**kwargs)
        if color_space not in ("rgb", "hsv"):
            raise ValueError(f"color_space is {color_space!r}; it must be 'rgb' or 'hsv'.")
        self.color_space = color_space

    def call(self, inputs):
        scaled = ops.cast(inputs, "float32") / 255.0
        if self.color_space == "hsv":
            scaled = ops.image.rgb_to_hsv(scaled)
        return ops.cast(scaled, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "color_space": self.color_space}


@keras.saving.register_keras_serializable("tiledseg")
class ImageNetInput(_Input):
    """uint8 RGB to what an encoder of `keras.applications` was trained on, float.

    Args:
        mode: "none" for networks that scale colours themselves (EfficientNet); "tf" for MobileNetV2: in [-1, 1]; or
            "caffe" for ResNet50: blue, green, red in [0, 255] less their means over ImageNet.
    """

    def __init__(self, mode: str, **kwargs):
        super().__init__(**kwargs)
        self.mode = mode

    def call(self, inputs):
        colors = ops.cast(inputs, "float32")
        if self.mode == "caffe":
            colors = ops.flip(colors, -1) - ops.array([103.939, 116.779, 123.68])
        elif self.mode == "tf":
            colors = colors / 127.5 - 1
        return ops.cast(colors, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def expects_white_balance(model: keras.Model) -> bool:
    """Whether a model was trained on balanced images."""
    return any(getattr(layer, "white_balance", False) for layer in model.layers)


def remember_white_balance(model: keras.Model) -> None:
    """Have a model expect balanced images, also once it is saved and loaded.

    Raises:
        ValueError: it begins with another layer than those of this module, and so has no place for it.
    """
    inputs = [layer for layer in model.layers if isinstance(layer, _Input)]
    if not inputs:
        raise ValueError("white_balance: the network does not begin with ColorInput or ImageNetInput.")
    for layer in inputs:
        layer.white_balance = True
