"""The list of sizes, and which of them an image gets."""

import pytest
from comfyui_kolors.kolors_core.networks.image_sizes import SIZES, nearest_size

MEGAPIXEL = 1024 * 1024


def kept(width: int, height: int, size: tuple[int, int]) -> float:
    """How much of an image is left where it is cropped to the proportions of a size."""
    ratio = width * size[1] / (height * size[0])
    return min(ratio, 1 / ratio)


def test_every_size_is_near_a_megapixel_in_steps_that_the_unet_can_halve():
    assert len(set(SIZES.values())) == len(SIZES) == 25
    for width, height in SIZES.values():
        assert width % 64 == height % 64 == 0 and 0.91 * MEGAPIXEL <= width * height <= MEGAPIXEL, (width, height)


def test_they_go_from_wide_to_tall_and_each_can_be_turned():
    sizes = list(SIZES.values())
    ratios = [width / height for width, height in sizes]
    assert ratios == sorted(ratios, reverse=True)
    assert sizes == [(width, height) for height, width in reversed(sizes)]


def test_a_label_says_the_size_and_its_proportions():
    """Saved workflows hold the labels: none of these may change."""
    labels = list(SIZES)
    assert labels[:5] == [
        "1600 x 640 (5:2)", "1536 x 640 (12:5)", "1472 x 704 (23:11)", "1408 x 704 (2:1)", "1344 x 768 (7:4)",
    ]  # fmt: skip
    assert labels[5:10] == [
        "1280 x 768 (5:3)", "1216 x 832 (19:13)", "1152 x 832 (18:13)", "1152 x 896 (9:7)", "1088 x 896 (17:14)",
    ]  # fmt: skip
    assert labels[10:14] == ["1088 x 960 (17:15)", "1024 x 960 (16:15)", "1024 x 1024 (1:1)", "960 x 1024 (15:16)"]
    assert labels[-1] == "640 x 1600 (2:5)"


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((640, 640), (1024, 1024)),
        ((2560, 1080), (1536, 640)),  # 21:9
        ((1920, 1080), (1344, 768)),  # 16:9
        ((3000, 2000), (1216, 832)),  # 3:2
        ((4000, 3000), (1152, 896)),  # 4:3
        ((1250, 1000), (1152, 896)),  # 5:4
        ((1200, 1000), (1088, 896)),
        ((1000, 1), (1600, 640)),
        ((1873, 1000), (1408, 704)),  # the ratio is nearer to that of 1344 x 768, but more would be cropped off
    ],
)
def test_an_image_gets_the_size_that_crops_it_least(image, size):
    assert nearest_size(*image) == size
    assert nearest_size(*reversed(image)) == size[::-1]
    assert kept(*image, size) == max(kept(*image, each) for each in SIZES.values())


@pytest.mark.parametrize("size", SIZES.values(), ids=str)
def test_an_image_of_a_listed_size_keeps_it(size):
    assert nearest_size(*size) == nearest_size(2 * size[0], 2 * size[1]) == size
