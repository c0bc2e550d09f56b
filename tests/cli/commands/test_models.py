"""`basiscli models` through the real command line."""

import pytest


def test_every_model_with_what_it_costs(basiscli):
    done = basiscli("models")
    assert done.code == 0 and not done.stderr
    by_name = {(record["model"], record["depth"], record["width"]): record for record in done.records}
    assert set(done.records[0]) == {
        "model", "depth", "width", "layers", "parameters", "multiply_adds", "memory_mb",
    }  # fmt: skip
    assert by_name["resnet", 20, 1]["parameters"] == 269_722
    assert by_name["wideresnet", 28, 10]["parameters"] == 36_479_194
    assert by_name["mlp", None, 512]["multiply_adds"] == 3072 * 512 + 2 * 512 * 512 + 512 * 10


def test_a_model_that_cannot_take_the_image_is_left_out_with_a_line(basiscli):
    done = basiscli("models", "--image", "28x28x1", "--classes", 7)
    assert done.code == 0
    assert "vgg" not in {record["model"] for record in done.records}
    assert "basiscli: vgg is left out: pool3 cannot halve 7x7" in done.stderr


@pytest.mark.parametrize("image", ["32", "32x32", "0x3x3", "axbxc", "32x32x3x1", "-1x2x3"])
def test_what_is_no_image_size_is_refused(basiscli, image):
    basiscli("models", "--image", image).refused("such as 32x32x3", code=2)
