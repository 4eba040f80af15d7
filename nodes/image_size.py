"""The node that gives the size of an image."""

from ..kolors_core.networks.image_sizes import SIZES, SQUARE, label, nearest_size


class KolorsImageSize:
    TITLE = "Kolors Image Size"
    CATEGORY = "Kolors/latent"
    DESCRIPTION = (
        "A width and a height around one megapixel, for Empty Latent Image and every other node that has a size: "
        "chosen from a list, or the one that fits an image best. The list is SDXL's, whose UNet Kolors has."
    )
    SEARCH_ALIASES = [
        "kolors",
        "kolors size",
        "resolution",
        "aspect ratio",
        "sdxl size",
        "width and height",
        "可图",
        "可图尺寸",
        "分辨率",
        "宽高比",
        "图像尺寸",
    ]
    RETURN_TYPES = ("INT", "INT")
    RETURN_NAMES = ("width", "height")
    OUTPUT_TOOLTIPS = ("The width in pixels.", "The height in pixels.")
    FUNCTION = "choose"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "size": (
                    list(SIZES),
                    {
                        "default": label(*SQUARE),
                        "tooltip": "Width x height in pixels, from wide to tall. Nearest to 16:9 is 1344 x 768, to 3:2 "
                        "1216 x 832, to 4:3 1152 x 896.",
                    },
                ),
            },
            "optional": {
                "image": (
                    "IMAGE",
                    {
                        "tooltip": "An image to start from or to control with: the size nearest to its proportions is "
                        "given, and size does not count.",
                    },
                ),
            },
        }

    def choose(self, size, image=None):
        return SIZES[size] if image is None else nearest_size(image.shape[2], image.shape[1])
