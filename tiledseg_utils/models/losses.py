"""Losses and metrics, on masks in {0, 1} and probabilities in [0, 1], both (N, H, W, C) float32.

With C = 1, they are those of binary segmentation. With C > 1 classes, of which masks are one-hot and probabilities add
up to 1, cross-entropy is the categorical one, and Dice and all other scores are the mean of those of each class but the
first, the background.

Dice, IoU, sensitivity and specificity are pooled over the whole batch, as in the published experiment: a batch is one
large picture, in which a tile with little foreground hardly counts. In `tile_dice_loss`, all tiles that show foreground
count alike, as images do in the mean that is reported. For reporting, `scoring.pixels` counts pixels of whole images.
Everything is registered under the package name, so a saved model opens in a fresh process once this module is imported.
"""

from .backend import keras, ops

SMOOTH = 1.0
"""Added to both sides of the Dice ratio, so that an empty mask predicted empty scores 1 and has a gradient."""

TILE_SMOOTH = 50.0
"""The same for the Dice of single tiles, in pixels. With 1, the sliver of a nucleus at a tile's edge would count as
much as a tile full of nuclei."""

_register = keras.saving.register_keras_serializable("tiledseg")


def _foreground(y_true, y_pred):
    """Both as float32, without the background where there are classes."""
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    return (y_true, y_pred) if y_pred.shape[-1] == 1 else (y_true[..., 1:], y_pred[..., 1:])


def _sums(y_true, y_pred):
    """Intersection, sum of the truth, sum of the prediction over the batch, as float32; of each class, if several."""
    y_true, y_pred = _foreground(y_true, y_pred)
    axes = None if y_pred.shape[-1] == 1 else (0, 1, 2)
    return ops.sum(y_true * y_pred, axes), ops.sum(y_true, axes), ops.sum(y_pred, axes)


def _decided(y_pred):
    """What a prediction decides: 1 from a probability of 0.5 on or, of classes, for the most probable one."""
    classes = y_pred.shape[-1]
    return y_pred >= 0.5 if classes == 1 else ops.one_hot(ops.argmax(y_pred, -1), classes)


@_register
def dice_coefficient(y_true, y_pred):
    """Soft Dice, (2 |TP| + 1) / (|T| + |P| + 1), in (0, 1] (Milletari et al. 2016, with a smoothing constant).

    `keras.losses.Dice` has no such constant: it gives an empty batch, predicted empty, the worst loss there is.
    """
    intersection, truth, prediction = _sums(y_true, y_pred)
    return ops.mean((2 * intersection + SMOOTH) / (truth + prediction + SMOOTH))


@_register
def iou_coefficient(y_true, y_pred):
    """Soft intersection over union (Jaccard index), in (0, 1], with the smoothing constant of Dice."""
    intersection, truth, prediction = _sums(y_true, y_pred)
    return ops.mean((intersection + SMOOTH) / (truth + prediction - intersection + SMOOTH))


@_register
def sensitivity(y_true, y_pred):
    """Share of foreground pixels found (recall), in [0, 1]; 0 if there is no foreground."""
    found, truth, _ = _sums(y_true, _decided(y_pred))
    return ops.mean(found / (truth + keras.config.epsilon()))


@_register
def specificity(y_true, y_pred):
    """Share of background pixels left alone, in [0, 1]; 0 if there is no background. What is not of a class counts as
    its background."""
    left, truth, _ = _sums(1 - ops.cast(y_true, "float32"), 1 - ops.cast(_decided(y_pred), "float32"))
    return ops.mean(left / (truth + keras.config.epsilon()))


@_register
def cross_entropy(y_true, y_pred):
    """Mean binary cross-entropy of all pixels or, of classes, the mean categorical one."""
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    of_pixels = keras.losses.binary_crossentropy if y_pred.shape[-1] == 1 else keras.losses.categorical_crossentropy
    return ops.mean(of_pixels(y_true, y_pred))


@_register
def dice_loss(y_true, y_pred):
    """1 - soft Dice."""
    return 1 - dice_coefficient(y_true, y_pred)


@_register
def iou_loss(y_true, y_pred):
    """1 - soft IoU."""
    return 1 - iou_coefficient(y_true, y_pred)


@_register
def bce_dice_loss(y_true, y_pred):
    """(cross-entropy + Dice loss) / 2: per-pixel gradients from the first, overlap from the second."""
    return (cross_entropy(y_true, y_pred) + dice_loss(y_true, y_pred)) / 2


@_register
def tile_dice_loss(y_true, y_pred):
    """1 - the mean of the soft Dice, (2 |TP| + 50) / (|T| + |P| + 50), of each class in each tile that shows it; 0 if
    none does. Where a class is absent, overlap means little, and cross-entropy alone teaches that nothing is there.

    nnU-Net has both ways, too, and calls the pooled one batch Dice (Isensee et al., Nature Methods 2021).
    """
    y_true, y_pred = _foreground(y_true, y_pred)
    intersection, truth, prediction = (ops.sum(y, axis=(1, 2)) for y in (y_true * y_pred, y_true, y_pred))
    losses = 1 - (2 * intersection + TILE_SMOOTH) / (truth + prediction + TILE_SMOOTH)
    shown = ops.cast(truth > 0, "float32")
    return ops.sum(losses * shown) / ops.maximum(ops.sum(shown), 1)


@_register
def bce_tile_dice_loss(y_true, y_pred):
    """(cross-entropy + Dice loss of tiles) / 2."""
    return (cross_entropy(y_true, y_pred) + tile_dice_loss(y_true, y_pred)) / 2


@_register
def bce_iou_loss(y_true, y_pred):
    """(cross-entropy + IoU loss) / 2."""
    return (cross_entropy(y_true, y_pred) + iou_loss(y_true, y_pred)) / 2


@_register
def structural_similarity(y_true, y_pred):
    """Mean structural similarity of mask and probability map (Wang et al. 2004), in [-1, 1].

    Gaussian window of 11 pixels with sigma 1.5, dynamic range 1, constants 0.01^2 and 0.03^2; only windows that lie
    wholly inside count, so H and W must be at least 11.
    """
    y_true, y_pred = _foreground(y_true, y_pred)
    if y_pred.shape[-1] > 1:  # Each class as an image of its own.
        y_true, y_pred = (ops.concatenate(ops.split(y, y.shape[-1], -1)) for y in (y_true, y_pred))
    line = ops.exp(-0.5 * ops.square(ops.arange(-5, 6, dtype="float32") / 1.5))
    line = line / ops.sum(line)

    def blur(x):  # The Gaussian separates into a column and a row.
        return ops.conv(ops.conv(x, ops.reshape(line, (11, 1, 1, 1))), ops.reshape(line, (1, 11, 1, 1)))

    mean_true, mean_pred = blur(y_true), blur(y_pred)
    variances = blur(y_true * y_true) - mean_true**2 + blur(y_pred * y_pred) - mean_pred**2
    covariance = blur(y_true * y_pred) - mean_true * mean_pred
    luminance = (2 * mean_true * mean_pred + 0.01**2) / (mean_true**2 + mean_pred**2 + 0.01**2)
    return ops.mean(luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2))


@_register
def bce_ssim_iou_loss(y_true, y_pred):
    """(cross-entropy + (1 - SSIM) + IoU loss) / 3: pixel, patch and map level (BASNet, Qin et al. CVPR 2019)."""
    pixel, region = cross_entropy(y_true, y_pred), iou_loss(y_true, y_pred)
    return (pixel + 1 - structural_similarity(y_true, y_pred) + region) / 3


LOSSES = {
    "bce_dice": bce_dice_loss,
    "bce_tile_dice": bce_tile_dice_loss,
    "dice": dice_loss,
    "iou": iou_loss,
    "bce_iou": bce_iou_loss,
    "bce_ssim_iou": bce_ssim_iou_loss,
    "bce": cross_entropy,
}
"""Losses by the name that a preset uses."""

METRICS = [dice_coefficient, iou_coefficient, sensitivity, specificity]
"""What training records for every epoch."""
