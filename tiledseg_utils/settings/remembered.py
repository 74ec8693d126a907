"""Which parameters of a run its model remembers, so that whoever has the file alone predicts as the run did."""

from .parameters import Parameters, PredictionSetting

PREDICTION = {
    **dict.fromkeys(("mode", "tile_size", "overlap", "test_time_augmentation"), PredictionSetting),
    **dict.fromkeys(("scales", "threshold", "min_area", "min_confidence"), Parameters),
}
"""By name, the setting that each is a field of. What a machine can hold (`batch_size`, `memory_mib`) is not remembered,
since the next one may hold less."""


def options_of(parameters: Parameters) -> dict[str, dict]:
    """What a model remembers of how its run predicts, for `inputs.remember_options`."""
    predict = {}
    for name, owner in PREDICTION.items():
        predict[name] = getattr(parameters if owner is Parameters else parameters.prediction, name)
    return {"predict": predict}
