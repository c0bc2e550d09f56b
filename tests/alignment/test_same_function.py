"""By how much logits differ."""

import numpy as np
import pytest

from basiscli.alignment.same_function import logit_difference


def test_the_difference_is_relative_to_the_largest_logit():
    before = np.array([[-4.0, 1.0], [2.0, 0.0]], np.float32)
    assert logit_difference(before, before + np.float32(0.5)) == pytest.approx(0.125)


def test_logits_of_zero_are_no_division_by_zero():
    zeros = np.zeros((2, 3), np.float32)
    with np.errstate(all="raise"):
        assert logit_difference(zeros, zeros) == 0
    assert logit_difference(zeros, zeros + 1) > 1e30


def test_what_is_not_a_number_is_no_small_difference():
    assert not logit_difference(np.zeros(3, np.float32), np.array([0, np.nan, 0], np.float32)) <= 1
