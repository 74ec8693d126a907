"""A model file that was saved before the package had rooms, at commit f816b64, still opens and predicts the same.

It was made there, with the backend JAX, by

    model = models.build_model("unet", {"base_filters": 2, "levels": 2, "patch_size": 2, "seed": 31})
    model.save("unet_f816b64.keras")

and its archive then was compressed, from 72 to 7 kB.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from tiledseg_utils import models  # noqa: F401 - registers what files name
from tiledseg_utils.models import losses  # noqa: F401
from tiledseg_utils.models.model_files import load_model
from tiledseg_utils.training import fit, instances  # noqa: F401

PREDICTED = [  # of every other row and column
    [0.01953115686774254, 0.01859436370432377, 0.019148943945765495, 0.01782085746526718],
    [0.019844045862555504, 0.020000003278255463, 0.018073799088597298, 0.013908283784985542],
    [0.017725344747304916, 0.01836741529405117, 0.016005638986825943, 0.018309224396944046],
    [0.018749110400676727, 0.01813705824315548, 0.017752772197127342, 0.01952727697789669],
]

REGISTERED = (
    *("Cosine", "WindowAttention", "relu", "SpaceToDepth", "DepthToSpace", "MaxPooling", "UpConvolution", "ImageMean"),
    *("DepthwiseConvolution", "ColorInput", "ImageNetInput", "HeNormal", "GlorotUniform", "SmallNormal", "Heads"),
    *("instance_loss", "dice_coefficient", "iou_coefficient", "sensitivity", "specificity", "dice_loss", "iou_loss"),
    *("bce_dice_loss", "bce_iou_loss", "structural_similarity", "bce_ssim_iou_loss"),
)
"""What files of that time may name."""


def test_a_file_of_before_opens_and_predicts_the_same():
    model = load_model(Path(__file__).with_name("unet_f816b64.keras"))
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(model.predict_on_batch(image)[0, ::2, ::2, 0], PREDICTED, rtol=1e-5)


@pytest.mark.parametrize("name", REGISTERED)
def test_its_names_are_still_known(name):
    assert keras.saving.get_registered_object(f"tiledseg>{name}") is not None
