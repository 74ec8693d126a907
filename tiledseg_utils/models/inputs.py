"""What models do first with their pixels, so that no caller can feed a trained model the wrong colours."""

import keras
from keras import layers, ops


class _Input(layers.Layer):
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
