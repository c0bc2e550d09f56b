"""Random moves of training images: what each name does, alone and together, to how far, in which stream."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from basiscli import data
from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.rng import generator
from basiscli.training import augment
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run


def moves(*names, size=(32, 24), count=2000):
    return augment.moves(names, size, count, partial(generator, 0, "augment", 0))


def test_each_name_moves_as_far_as_it_says():
    assert set(np.unique(moves("shift"))) == {-1, 0, 1} and moves("shift").shape == (2000, 2)
    crop = moves("crop")
    assert set(np.unique(crop[:, 0])) == set(range(-4, 5)) and set(np.unique(crop[:, 1])) == set(range(-3, 4))
    assert set(np.unique(moves("crop", size=(7, 7)))) == {-1, 0, 1}
    flip = moves("flip")
    assert flip[:, 2].mean() == pytest.approx(0.5, abs=0.05) and not flip[:, [0, 1, 3, 4]].any()
    cutout = moves("cutout")
    assert (cutout[:, 3:].min(axis=0) == 0).all() and (cutout[:, 3:].max(axis=0) == (31, 23)).all()
    assert augment.hole(("cutout",), (32, 24)) == 12 and augment.hole(("crop", "flip"), (32, 24)) == 0


def test_one_kind_of_move_does_not_change_another():
    together = moves("crop", "flip", "cutout")
    np.testing.assert_array_equal(together[:, :2], moves("crop"))
    np.testing.assert_array_equal(together[:, 2], moves("flip")[:, 2])
    np.testing.assert_array_equal(together[:, 3:], moves("cutout")[:, 3:])


@pytest.mark.parametrize("text", ["", "turn", "crop,crop", "shift,crop", "none,flip", "crop;flip", "all-shifts,flip"])
def test_what_is_no_augmentation_is_refused(text):
    with pytest.raises(BadInput, match="augment"):
        augment.parse(text)


def test_a_batch_holds_the_images_moved():
    digits = data.load("digits")
    network = models.mlp((8, 8, 1), 10, [4])
    run = Run.start(network, Recipe(augment="flip,cutout", batch_size=1200), digits, [0, 1])
    plain = replace(run, recipe=Recipe(batch_size=1200))
    images, still = (one._images(*(values[:, 0] for values in next(one._batches())[:2])) for one in (run, plain))
    same = (images == still) | (images == still[:, :, :, ::-1]) | (images == 0)
    assert same.all() and (images != still).any()
    blank = (images == 0).reshape(2, 1200, 64)
    assert blank.sum(axis=2).min() >= 4 and blank.sum(axis=2).max() <= 16 + 30  # a corner of the hole, or all of it
