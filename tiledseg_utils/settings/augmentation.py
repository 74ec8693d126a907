"""What may happen to a sample in training, and how strongly: a section of the parameters of the course."""

from collections.abc import Mapping

from .schema import decimal, field, numbers, points, read, setting, span

CHANCE = "probability in a sample"


def _chance(about: str):
    return field(0.0, about, CHANCE)


@setting
class Augmentation:
    """What may happen to a sample, how often, and how strongly. The default does nothing.

    A setting named after a transform is its probability in a sample; those below it are its parameters, a range being
    (low, high) of what is drawn.
    """

    hflip: decimal(0, 1) = _chance("mirror left and right")
    vflip: decimal(0, 1) = _chance("mirror top and bottom")
    quarter_turn: decimal(0, 1) = _chance("turn by 90, 180 or 270 degrees; tiles that are not square turn by 180 only")
    rotation: decimal(0, 1) = _chance("rotate counter-clockwise about the centre")
    rotation_angles: numbers(-360, 360) = field((), "angles to draw one of; if empty, rotation_range holds", "degrees")
    rotation_range: span(-360, 360) = field((-180.0, 180.0), "what the angle is drawn from", "degrees")
    scale: decimal(0, 1) = _chance("shrink or enlarge about the centre; what enters at the border is mirrored")
    scale_range: span(0.25, 4) = field((0.8, 1.25), "factor, drawn on a logarithmic axis; below 1 shrinks", "factor")
    shear: decimal(0, 1) = _chance("slide columns up and down, in proportion to their distance from the centre")
    shear_range: span(-1, 1) = field((-0.1, 0.1), "how steeply", "rows per column")
    barrel: decimal(0, 1) = _chance("magnify the middle of a lens, as a barrel bulges")
    pincushion: decimal(0, 1) = _chance("shrink the middle of a lens; another draw from the same lens settings")
    lens_centres: points(0, 1) = field(((0.5, 0.5),), "middles to draw one of; 0 = first, 1 = last row, column")
    lens_radius: decimal(0.01, 2) = field(0.3, "radius of the lens; nothing outside it moves", "fraction of the width")
    lens_amount: decimal(0, 0.9) = field(0.3, "exponent of the magnification; 0 = none")
    distortion: decimal(0, 1) = _chance("smooth distortion of known peak; Gaussian noise, smoothed, scaled to its peak")
    distortion_sigma: decimal(4, 1000) = field(40.0, "pixels over which neighbours move together", "pixels")
    distortion_size: decimal(0, 0.5) = field(0.02, "largest displacement along each axis", "fraction of the width")
    distortion_sizes: numbers(0, 0.5) = field(
        (), "sizes to draw one of; if empty, distortion_size holds", "fraction of the width"
    )
    elastic: decimal(0, 1) = _chance("elastic deformation (Simard et al. 2003; Ronneberger et al. 2015)")
    elastic_alpha: decimal(0, 1e5) = field(112.0, "std is 0.163 alpha / sigma pixels; above 3 sigma**2 tissue folds")
    elastic_sigma: decimal(4, 1000) = field(8.0, "pixels over which neighbours move together", "pixels")
    elastic_sigmas: numbers(4, 1000) = field((), "sigmas to draw one of; if empty, elastic_sigma holds", "pixels")
    # The image only:
    stain: decimal(0, 1) = _chance("vary three stains (Ruifrok & Johnston 2001; Tellez et al. 2018)")
    stain_scale: span(0, 4) = field((0.95, 1.05), "factor on the amount of each stain", "factor")
    stain_shift: span(-2, 2) = field((-0.05, 0.05), "added amount of each stain", "optical density, base e")
    color: decimal(0, 1) = _chance("vary hue, saturation and value")
    color_hue: span(-180, 180) = field((-10.0, 10.0), "round the colour circle", "degrees")
    color_saturation: span(0, 4) = field((0.8, 1.2), "factor on the saturation", "factor")
    color_value: span(0, 4) = field((0.9, 1.1), "factor on the value", "factor")
    brightening: decimal(0, 1) = _chance("alpha * grey + beta")
    brightening_alpha: span(0, 4) = field((0.8, 1.2), "the factor alpha, the contrast", "factor")
    brightening_beta: span(-255, 255) = field((-10.0, 10.0), "the offset beta, the brightness", "grey levels")
    blur: decimal(0, 1) = _chance("Gaussian blur, a slide out of focus")
    blur_sigma: span(0.1, 50) = field((0.5, 1.5), "sigma of the Gaussian", "pixels")
    sharpening: decimal(0, 1) = _chance("add k times the difference between a pixel and each of its eight neighbours")
    sharpening_k: decimal(0, 10) = field(1.0, "the factor k", "factor")
    noise: decimal(0, 1) = _chance("Gaussian noise, independent in each pixel and channel")
    noise_sigma: span(0, 128) = field((2.0, 8.0), "its standard deviation", "grey levels")
    stray_light: decimal(0, 1) = _chance("stray light: mix with the grey of empty background, paling the dark most")
    stray_light_share: span(0, 1) = field((0.0, 0.3), "share of the stray light", "share")
    stray_light_grey: decimal(0, 255) = field(220.0, "grey level of empty background; it stays as it is", "grey level")
    cell_brightness: decimal(0, 1) = _chance("make some objects brighter or darker, each by itself (MEDIAR, 2022)")
    cell_brightness_share: decimal(0, 1) = field(0.4, "share of the objects that change", "share")
    cell_brightness_range: span(0.1, 4) = field((0.6, 1.5), "factor, drawn on a logarithmic axis", "factor")

    @classmethod
    def from_dict(cls, values: Mapping) -> "Augmentation":
        """Make it from names and values, as YAML gives them; errors name `augmentation`."""
        return read(cls, values, "augmentation")
