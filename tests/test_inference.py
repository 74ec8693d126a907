import keras
import numpy as np
import pytest

from tiledseg_utils import inference, models
from tiledseg_utils.files import UserError


@keras.saving.register_keras_serializable("tests")
class RedShare(keras.layers.Layer):
    """A network of no context: the red channel as probability."""

    def call(self, inputs):
        return keras.ops.cast(inputs[..., :1], "float32") / 255


@pytest.fixture(scope="module")
def pointwise():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    return keras.Model(inputs, RedShare()(inputs))


class Recorder:
    """Stands for a model and remembers the shapes it was called with."""

    layers = ()

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, batch):
        self.shapes.append(batch.shape)
        return batch[..., :1] / np.float32(255)


@pytest.mark.parametrize("shape", [(200, 300), (30, 40), (64, 64), (1, 90), (97, 1)])
@pytest.mark.parametrize(("overlap", "blend"), [(0, False), (16, True), (32, True), (16, False)])
def test_tiling_a_network_without_context_changes_nothing(pointwise, rng, shape, overlap, blend):
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    probability = inference.predict_tiled(pointwise, image, 64, overlap, batch_size=3, blend=blend)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, image[..., 0] / np.float32(255), atol=1e-6)


def test_one_shape_is_compiled_whatever_the_image(rng):
    recorder = Recorder()
    for shape in ((100, 200), (30, 30), (257, 64)):
        inference.predict_tiled(recorder, rng.integers(0, 256, (*shape, 3)).astype(np.uint8), 64, 16, batch_size=4)
    assert set(recorder.shapes) == {(4, 64, 64, 3)}


def test_overlap_must_fit_the_tile(pointwise):
    with pytest.raises(UserError, match="overlap 40: does not fit tiles of 64 px"):
        inference.predict_tiled(pointwise, np.zeros((80, 80, 3), np.uint8), 64, overlap=40)


def test_blending_hides_seams_of_a_network_with_context(rng):
    model = models.build_model("unet", {"base_filters": 4, "levels": 3, "seed": 1})
    image = rng.integers(0, 256, (128, 256, 3)).astype(np.uint8)
    whole = np.asarray(model(image[None]))[0, ..., 0]
    error = {
        overlap: np.abs(inference.predict_tiled(model, image, 64, overlap) - whole).mean() for overlap in (0, 16, 32)
    }
    assert error[32] < error[16] < error[0]


def test_the_blending_window_is_positive_symmetric_and_flat_inside():
    window = inference.blending_window(16, 4)
    assert window.min() > 0 and window.max() == 1
    np.testing.assert_array_equal(window, window.T)
    np.testing.assert_array_equal(window, window[::-1])
    assert (window[4:12, 4:12] == 1).all()
    assert (np.diff(window[8, :5]) > 0).all()


def test_whole_prediction_has_the_size_of_the_image(pointwise):
    image = np.zeros((90, 140, 3), np.uint8)
    image[:, 70:] = 255
    probability = inference.predict_whole(pointwise, image, 32)
    assert probability.shape == (90, 140)
    np.testing.assert_allclose(probability[:, [10, -10]], [[0, 1]] * 90, atol=1e-6)


def test_a_missing_or_broken_model(tmp_path):
    with pytest.raises(UserError, match=r"there is no model\. Run notebook 03_unet_training"):
        inference.load_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_text("not a model")
    with pytest.raises(UserError, match="is not a model that can be read"):
        inference.load_model(tmp_path / "model.keras")
