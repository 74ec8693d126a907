"""Architectures by name. To add one: write its file, and enter its function in `ARCHITECTURES`."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping

from ..base.files import UserError, check_names
from ..settings.architectures import ModelSettings
from ..settings.schema import fields_of, read
from .attention_unet import attention_unet
from .backend import keras
from .deeplab_v3_plus import deeplab_v3_plus
from .efficient_unet import efficient_unet
from .inputs import remember_classes, remember_normalization
from .instance_unet import instance_unet  # noqa: F401 - of six maps, for `instances`; no choice of `build_model`
from .interface import USUAL, Interface
from .multires_unet import multires_unet
from .swin_unet import swin_unet
from .unet import unet
from .unet3_plus import unet3_plus

ARCHITECTURES = (unet, attention_unet, multires_unet, unet3_plus, efficient_unet, deeplab_v3_plus, swin_unet)
MODELS = {architecture.__name__: architecture for architecture in ARCHITECTURES}


def check_settings(name: str, settings: Mapping) -> None:
    """Refuse an unknown architecture, and settings that it does not have or that are out of range.

    Of an architecture of your own, which the schema does not know, only the names are checked.

    Raises:
        UserError: lists the valid ones.
    """
    check_names("model", [name], MODELS)
    arguments = inspect.signature(MODELS[name]).parameters
    if name not in fields_of(ModelSettings):
        check_names(f"model_settings.{name}", settings, arguments)
        return
    known = fields_of(getattr(ModelSettings(), name))
    # The seed, and what only the function has, are no settings of a preset.
    own = {key: value for key, value in settings.items() if key in known or key not in arguments}
    read(ModelSettings, {name: own}, "model_settings")


@contextlib.contextmanager
def layers_of(precision: str) -> Iterator[None]:
    """Build layers with a dtype policy of Keras, such as "float32" or "mixed_bfloat16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_model(
    name: str,
    settings: Mapping | None = None,
    normalization: str | None = None,
    precision: str = "float32",
    interface: Interface = USUAL,
) -> keras.Model:
    """Build the architecture `name` with its own `settings` (see the function's docstring).

    Args:
        normalization: how the images that it will learn from were normalized, see `normalization.METHODS`. It remembers
            that, and the functions of `inference` do so to what they give it.
        interface: what goes in and comes out, if not RGB and a probability of foreground.
        precision: of the layers, as Keras names dtype policies; weights and probabilities are float32 in any case.

    Raises:
        UserError: unknown name or setting, or a value out of range.
    """
    settings = dict(settings or {})
    check_settings(name, settings)
    try:
        with layers_of(precision):
            model = MODELS[name](**settings, **_interface_argument(name, interface))
        remember_normalization(model, normalization)
        remember_classes(model, interface.classes)
    except UserError:
        raise
    except ValueError as error:
        raise UserError("model_settings", str(error).rstrip("."), f"See help(tiledseg_utils.models.{name})") from error
    return model


def _interface_argument(name: str, interface: Interface) -> dict:
    """What tells an architecture its interface. One of your own need not know it for RGB and foreground."""
    if interface == USUAL:
        return {}
    if "interface" not in inspect.signature(MODELS[name]).parameters:
        problem = "takes RGB and predicts foreground, but the data have channels or classes"
        raise UserError(f"model {name}", problem, "Give its function a parameter `interface`, as that of models.unet")
    return {"interface": interface}
