"""The view of a network with classes that all have who do not ask for classes: foreground against background."""

import weakref

from .backend import keras, layers, ops
from .inputs import classes_of


@keras.saving.register_keras_serializable("tiledseg")
class Foreground(layers.Layer):
    """The probability of any class but the first, the background: (N, H, W, C) to (N, H, W, 1)."""

    def call(self, inputs):
        return ops.sum(inputs[..., 1:], -1, keepdims=True)


_VIEWS: weakref.WeakKeyDictionary[keras.Model, keras.Model] = weakref.WeakKeyDictionary()
"""Of each model, so that it is compiled once."""


def foreground_of(model: keras.Model) -> keras.Model:
    """A model with one probability, of foreground, that shares the layers of one with classes; any other as it is."""
    if classes_of(model) is None or model.output_shape[-1] == 1:
        return model
    if model not in _VIEWS:
        output = Foreground(dtype="float32", name="foreground")(model.output)
        _VIEWS[model] = keras.Model(model.input, output, name=model.name)
    return _VIEWS[model]


def is_view(model: keras.Model) -> bool:
    """Whether `foreground_of` made a model."""
    return isinstance(model.layers[-1], Foreground)
