"""What is drawn from an image: edits, ControlNets, image and face prompts."""

from __future__ import annotations

from .card import CONTROL, INPAINTING, Card, Input, Run, Shown

MASK = (14, 10, 100, 108)

DOG = Input("a dog on a blue background", 3, MASK)
APPLE = Input("a red apple on a green background", 3, MASK)
RIGHT_DOG = Input("a dog on the right on a white background", 2)
ROCKET = Input("a rocket on a purple background", 1)
PENGUIN = Input("a penguin on a pink background", 1)
BLUE_PENGUIN = Input("a penguin on a blue background", 1)
WHITE_ROCKET = Input("a rocket on a white background")
PINK_CAT = Input("a cat on a pink background", 3)
BLUE_CAT = Input("a cat on a blue background", 3)
BEFORE, AFTER = ("before", "原图"), ("after", "结果")

CARDS = {
    "Kolors-image-to-image": Card(
        ("an image and a prompt", "图片加提示词"),
        (Shown(Input("a red apple on a yellow background"), BEFORE, "→"), Shown(Run(), AFTER)),
        {
            "LoadImage.image": Input("a red apple on a yellow background"),
            "CLIPTextEncode.text": "a pumpkin on a yellow background",
            "KolorsKSampler.seed": 1,
            "KolorsKSampler.denoise": 0.75,
        },
        prompt="a pumpkin on a yellow background",
    ),
    "Kolors-inpainting": Card(
        ("redraw what the mask covers", "重画蒙版盖住的部分"),
        (Shown(DOG, ("mask", "蒙版"), "→"), Shown(Run(), AFTER)),
        {
            "LoadImage.image": DOG,
            "KolorsUNETLoader.unet_name": INPAINTING,
            "CLIPTextEncode.text": "a fox on a blue background",
            "KolorsKSampler.seed": 1,
        },
        prompt="a fox on a blue background",
    ),
    "Kolors-inpainting-with-any-model": Card(
        ("inpaint with any model", "任何模型都能局部重绘"),
        (Shown(APPLE, ("mask", "蒙版"), "→"), Shown(Run(), AFTER)),
        {
            "LoadImage.image": APPLE,
            "CLIPTextEncode.text": "a soccer ball on a green background",
            "KolorsKSampler.seed": 2,
            "KolorsKSampler.denoise": 1.0,
        },
        prompt="a soccer ball on a green background",
    ),
    "Kolors-ControlNet": Card(
        ("edges and a prompt", "边缘图加提示词"),
        (
            Shown(RIGHT_DOG, ("image", "图片"), "→"),
            Shown(Run(output="PreviewImage"), ("edges", "边缘"), "→"),
            Shown(Run()),
        ),
        {
            "LoadImage.image": RIGHT_DOG,
            "KolorsControlNetLoader.control_net_name": CONTROL,
            "ControlNetApplyAdvanced.strength": 1.0,
            "CLIPTextEncode.text": "a dog on a blue background",
            "KSampler.seed": 1,
        },
        prompt="a dog on a blue background",
    ),
    "Kolors-ControlNet-with-IP-Adapter": Card(
        ("edges and an image as a prompt", "边缘图加图片提示"),
        (
            Shown(Run(output="PreviewImage"), ("edges", "边缘"), "+"),
            Shown(PENGUIN, ("image", "图片"), "→"),
            Shown(Run()),
        ),
        {
            "LoadImage.image": PENGUIN,
            "LoadImage:2.image": Input("a penguin on the left on a white background", 2),
            "KolorsControlNetLoader.control_net_name": CONTROL,
            "ControlNetApplyAdvanced.strength": 1.0,
            "KolorsIPAdapterApply.weight": 1.0,
            "CLIPTextEncode.text": "a picture",
            "KSampler.seed": 1,
        },
    ),
    "Kolors-IP-Adapter": Card(
        ("an image as a prompt", "用图片当提示词"),
        (Shown(ROCKET, ("image", "图片"), "→"), Shown(Run(), AFTER)),
        {
            "LoadImage.image": ROCKET,
            "KolorsIPAdapterApply.weight": 1.0,
            "CLIPTextEncode.text": "green background",
            "KSampler.seed": 1,
        },
        prompt="green background",
    ),
    "Kolors-IP-Adapter-with-two-images": Card(
        ("style of one, layout of the other", "一张给风格，一张给构图"),
        (Shown("style", ("style", "风格"), "+"), Shown("layout", ("layout", "构图"), "→"), Shown("both")),
    ),
    "Kolors-image-variation": Card(
        ("between two images", "介于两张图片之间"),
        (Shown(PENGUIN, None, "+"), Shown(BLUE_PENGUIN, None, "→"), Shown(Run())),
        {
            "LoadImage.image": PENGUIN,
            "LoadImage:2.image": BLUE_PENGUIN,
            "KolorsImagePromptCombine.weight_2": 1.0,
            "CLIPTextEncode.text": "a picture",
            "KSampler.seed": 1,
        },
    ),
    # with all layers: in the miniature, one of them alone carries no style
    "Kolors-style-without-subject": Card(
        ("one image minus another", "一张图片减去另一张"),
        (Shown(ROCKET, None, "−"), Shown(WHITE_ROCKET, None, "→"), Shown(Run())),
        {
            "LoadImage.image": ROCKET,
            "LoadImage:2.image": WHITE_ROCKET,
            "KolorsImagePromptApply.weight_type": "linear",
            "CLIPTextEncode.text": "a cat",
            "KSampler.seed": 1,
        },
        prompt="a cat",
    ),
    "Kolors-FaceID": Card(
        ("a face from a photo, in a new image", "照片里的脸，画进新图"),
        (Shown("face", ("face", "人脸"), "→"), Shown("portrait")),
        prompt="portrait of an astronaut",
    ),
    "Kolors-average-of-images-saved": Card(
        ("the average of two, kept in a file", "两张图的平均，存成文件"),
        (Shown(PINK_CAT, None, "+"), Shown(BLUE_CAT, None, "→"), Shown(Run())),
        {
            "LoadImage.image": PINK_CAT,
            "LoadImage:2.image": BLUE_CAT,
            "KolorsPromptEncode.text": "a picture",
            "KSampler.seed": 1,
        },
    ),
    "Kolors-saved-image-prompt": Card(
        ("an image prompt from a file", "从文件读图片提示"),
        (Shown("file", ("file", "文件"), "→"), Shown(Run())),
        {"KolorsPromptEncode.text": "a picture", "KSampler.seed": 2},
        after="Kolors-average-of-images-saved",
    ),
    "Kolors-ControlNet-union-of-SDXL": Card(
        ("one ControlNet, eight kinds", "一个 ControlNet，八种控制"),
        (Shown("outlines", ("lines", "线条"), "/"), Shown("depth", ("depth", "深度"), "→"), Shown("both")),
    ),
}
