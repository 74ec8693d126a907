"""What models do first with their pixels, so that no caller can feed a trained model the wrong colours.

White balance and contrast are not part of this, as a model sees tiles and these belong to the whole image. But models
remember how their training images were normalized (`normalization_of`), and `inference` then normalizes what it
predicts. They also remember which images these were (`images_learnt_from`), and how the run that trained them used them
(`remembered_options`).
"""

import json
from collections.abc import Mapping

import numpy as np

from ..data.channels import Channels
from ..data.classes import Classes
from ..data.normalization import CONTRAST, WHITE_BALANCE
from .backend import keras, layers, ops


class _Input(layers.Layer):
    """Converts pixels, and holds what a model remembers of the images that it was trained on.

    Args:
        white_balance, contrast: whether `normalization.normalize` went over them with the method of that name.
        learnt_from: which images they were, see `provenance.learnt_from`; None if unknown.
        options: how the run used the model, see `remember_options`; None if unknown.
        classes: the lines of their table, see `Classes.rows`; None if the model predicts foreground.
    """

    def __init__(
        self,
        white_balance: bool = False,
        learnt_from: dict | None = None,
        options: dict | None = None,
        contrast: bool = False,
        classes: list | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.white_balance, self.contrast = white_balance, contrast
        self.learnt_from = json.dumps(learnt_from)  # As text, since Keras would look for layers in a dictionary.
        self.options = json.dumps(options)
        self.classes = None if classes is None else Classes.from_rows(classes)

    def get_config(self):
        known = {"learnt_from": json.loads(self.learnt_from), "options": json.loads(self.options)}
        known = {name: value for name, value in known.items() if value is not None}
        # These are left out where they are not needed, since earlier versions refuse them.
        known |= {"contrast": True} if self.contrast else {}
        known |= {"classes": self.classes.rows()} if self.classes else {}
        return {**super().get_config(), "white_balance": self.white_balance, **known}

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)


def _hls(colors):
    """Hue, lightness and saturation, each in [0, 1]."""
    hue = ops.image.rgb_to_hsv(colors)[..., :1]
    high, low = ops.max(colors, -1, keepdims=True), ops.min(colors, -1, keepdims=True)
    room = ops.where(high + low < 1, high + low, 2 - high - low)  # The largest difference at this lightness.
    saturation = (high - low) / ops.where(high > low, room, 1.0)
    return ops.concatenate([hue, (high + low) / 2, saturation], -1)


_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""X, Y and Z of linear red, green and blue (ITU-R BT.709)."""


def _lab(colors):
    """L* / 100, and a* and b* as (value + 128) / 255, of sRGB (CIE 1976, white of daylight, D65)."""
    linear = ops.where(colors > 0.04045, ops.power((colors + 0.055) / 1.055, 2.4), colors / 12.92)
    xyz = ops.matmul(linear, (_XYZ / _XYZ.sum(1, keepdims=True)).T.astype("float32"))  # White becomes (1, 1, 1).
    root = ops.where(xyz > 0.008856, ops.power(ops.maximum(xyz, 0.008856), 1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return ops.stack([1.16 * y - 0.16, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255], -1)


COLOR_SPACES = {"rgb": lambda colors: colors, "hsv": ops.image.rgb_to_hsv, "hls": _hls, "lab": _lab}
"""From RGB in [0, 1], (..., 3) float32, to channels in [0, 1]: red, green, blue; hue, saturation, value; hue,
lightness, saturation; or L*, a*, b* of CIE 1976."""


@keras.saving.register_keras_serializable("tiledseg")
class ColorInput(_Input):
    """uint8 RGB to float in [0, 1], in another colour space if asked for.

    Args:
        color_space: one of `COLOR_SPACES`.
        gamma: exponent of the values in [0, 1], before they are converted; above 1 darkens.
    """

    def __init__(self, color_space: str = "rgb", gamma: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if color_space not in COLOR_SPACES:
            raise ValueError(f"color_space is {color_space!r}; it must be one of {', '.join(COLOR_SPACES)}.")
        self.color_space, self.gamma = color_space, gamma

    def call(self, inputs):
        scaled = ops.cast(inputs, "float32") / 255.0
        if self.gamma != 1:
            scaled = ops.power(scaled, self.gamma)
        return ops.cast(COLOR_SPACES[self.color_space](scaled), self.compute_dtype)

    def get_config(self):
        own = {"color_space": self.color_space}
        own |= {"gamma": self.gamma} if self.gamma != 1 else {}  # Left out if not needed: earlier versions refuse it.
        return {**super().get_config(), **own}


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


@keras.saving.register_keras_serializable("tiledseg")
class ChannelInput(_Input):
    """Channels as they are stored to float: in each, `low` becomes 0 and `high` becomes `top`; the rest is cut off.

    Args:
        numbers, dtype, low, high: as in `channels.Channels`.
        top: 1, or 255 for networks that scale colours themselves.
    """

    def __init__(self, numbers, dtype_of_images: str, low, high, top: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.channels = Channels(tuple(numbers), dtype_of_images, tuple(low), tuple(high))
        self.top = top

    def call(self, inputs):
        low = ops.convert_to_tensor(self.channels.low, "float32")
        span = ops.convert_to_tensor(self.channels.high, "float32") - low
        scaled = ops.clip((ops.cast(inputs, "float32") - low) / span, 0.0, 1.0)
        return ops.cast(scaled * self.top, self.compute_dtype)

    def get_config(self):
        channels = self.channels
        rule = {"numbers": list(channels.numbers), "dtype_of_images": channels.dtype}
        rule |= {"low": list(channels.low), "high": list(channels.high), "top": self.top}
        return {**super().get_config(), **rule}


def channels_of(model: keras.Model) -> Channels | None:
    """The channels that a model takes as they are stored; None if it takes RGB."""
    return next((layer.channels for layer in model.layers if isinstance(layer, ChannelInput)), None)


def classes_of(model: keras.Model) -> Classes | None:
    """The classes that a model tells apart; None if it predicts foreground, or counts."""
    return next((layer.classes for layer in _inputs(model) if layer.classes), None)


def remember_classes(model: keras.Model, classes: Classes | None) -> None:
    """Have a model know the names, values and colours of its classes, also once it is saved and loaded.

    Raises:
        ValueError: it does not begin with a layer of this module, and so has nowhere to keep them.
    """
    inputs = _inputs(model)
    if classes and not inputs:
        raise ValueError("classes: the network does not begin with ColorInput or ImageNetInput.")
    for layer in inputs:
        layer.classes = classes


def normalization_of(model: keras.Model) -> str | None:
    """How the images that a model was trained on were normalized: one of `normalization.METHODS`, or None."""
    for name in (WHITE_BALANCE, CONTRAST):
        if any(getattr(layer, name, False) for layer in _inputs(model)):
            return name
    return None


def remember_normalization(model: keras.Model, method: str | None) -> None:
    """Have a model expect normalized images, also once it is saved and loaded; None changes nothing.

    Raises:
        ValueError: it does not begin with a layer of this module, and so has nowhere to keep it.
    """
    inputs = _inputs(model)
    if method and not inputs:
        raise ValueError(f"{method}: the network does not begin with ColorInput or ImageNetInput.")
    for layer in inputs if method else ():
        setattr(layer, method, True)


def images_learnt_from(model: keras.Model) -> dict | None:
    """The images that a model was trained on, as it remembers them (see `provenance.learnt_from`); None if unknown."""
    for layer in _inputs(model):
        known = json.loads(layer.learnt_from)
        if isinstance(known, dict) and all(isinstance(known.get(split), dict) for split in ("train", "valid")):
            return known
    return None


def remember_images(model: keras.Model, learnt_from: dict | None) -> None:
    """Have a model remember which images it was trained on, also when it is saved, loaded and copied.

    A model without a layer of this module has nowhere to keep it, and does not know.
    """
    for layer in _inputs(model):
        layer.learnt_from = json.dumps(learnt_from)


def remembered_options(model: keras.Model):
    """What `remember_options` gave to a model; None if nothing.

    It is as the file has it, and a file from elsewhere may hold anything: `commands.remembered` checks it.
    """
    return next((json.loads(layer.options) for layer in _inputs(model)), None)


def remember_options(model: keras.Model, options: Mapping[str, Mapping] | None) -> None:
    """Have a model remember how the run that trained it used it, also when it is saved, loaded and copied.

    A model without a layer of this module has nowhere to keep it, and does not know.

    Args:
        options: by command: for "predict" those of `settings.remembered.PREDICTION`; for "instances" the method, the
            threshold and min_area. None forgets them.
    """
    for layer in _inputs(model):
        layer.options = json.dumps(options)


def _inputs(model: keras.Model) -> list[_Input]:
    """Such layers of a model, and of the networks within it."""
    found = []
    for layer in model.layers:
        if isinstance(layer, _Input):
            found.append(layer)
        elif isinstance(layer, keras.Model):
            found += _inputs(layer)
    return found
