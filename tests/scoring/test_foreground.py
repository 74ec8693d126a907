import numpy as np

from tiledseg_utils.scoring.foreground import find_foreground


def test_small_pieces_are_dropped():
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True  # one piece, over corners
    mask[4:, 5:7] = True
    for min_area, left in ((0, 7), (1, 7), (3, 7), (4, 4), (5, 0)):
        assert find_foreground(mask.astype(np.float32), 0.5, min_area).sum() == left


def test_doubtful_pieces_are_dropped_whole():
    probability = np.zeros((6, 9), np.float32)
    probability[0, 0], probability[1, 1] = 0.9, 0.5  # one piece, over the corner, of mean 0.7
    probability[3:, 4:] = 0.625
    probability[4, 5] = 1
    both, one = probability >= 0.5, np.zeros((6, 9), bool)
    one[0, 0] = one[1, 1] = True
    for confidence, expected in ((0, both), (0.5, both), (0.625, both), (0.69, one), (0.71, one & False)):
        np.testing.assert_array_equal(find_foreground(probability, 0.5, 0, confidence), expected)
    assert not find_foreground(probability, 0.5, 3, 0.69).any()
    assert not find_foreground(0 * probability, 0.5, 0, 0.7).any()
