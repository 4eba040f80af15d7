"""What a prompt alone draws."""

from __future__ import annotations

from .card import FAST, Card, Run, Shown

CARDS = {
    "Kolors-text-to-image": Card(
        ("a prompt becomes an image", "提示词变成图片"),
        (Shown(Run({"KSampler.seed": 1})),),
        {"CLIPTextEncode.text": "a penguin on a pink background"},
        prompt="a penguin on a pink background",
    ),
    "Kolors-demo-with-the-miniature": Card(
        ("try it at once: 24 MB", "马上试用：24 MB"),
        (Shown(Run({"KSampler.seed": 1})),),
        prompt="红苹果，黄色背景",
    ),
    "Kolors-prompt-with-options": Card(
        ("weights, sizes, long prompts", "权重、尺寸、长提示词"),
        (Shown(Run({"KSampler.seed": 3})),),
        {"KolorsPromptEncode.text": "a cat on a blue background"},
        prompt="a cat on a blue background",
    ),
    "Kolors-exactly-as-diffusers": Card(
        ("the same image as diffusers", "与 diffusers 的图片一致"),
        (Shown(Run({"KolorsKSampler.seed": 5})),),
        {"KolorsPromptEncode.text": "青蛙，粉色背景"},
        prompt="青蛙，粉色背景",
    ),
    "Kolors-few-steps-with-LCM": Card(
        ("six steps instead of 25", "6 步代替 25 步"),
        (Shown(Run()),),
        {
            "KolorsLoraLoader.lora_name": FAST,
            "CLIPTextEncode.text": "a fox on a green background",
            "KolorsKSampler.seed": 1,
            "KolorsKSampler.cfg": 1.0,
        },
        prompt="a fox on a green background",
    ),
    # small enough that the second pass comes to 128 pixels, which the miniature was trained for
    "Kolors-high-resolution-in-two-passes": Card(
        ("small first, then large", "先小图，再放大重画"),
        (
            Shown(Run({"KSampler:2.denoise": 0.01, "LatentUpscaleBy.scale_by": 1.0}), ("pass 1", "第一遍"), "→"),
            Shown(Run(), ("pass 2", "第二遍")),
        ),
        {
            "EmptyLatentImage.width": 88,
            "EmptyLatentImage.height": 88,
            "CLIPTextEncode.text": "a rocket on a purple background",
            "KSampler.seed": 1,
        },
        prompt="a rocket on a purple background",
    ),
    "Kolors-text-to-image-app": Card(
        ("an app: write, press Run", "应用：写提示词，点运行"),
        (Shown(Run({"KSampler.seed": 3})),),
        {"KolorsPromptEncode.text": "一张向日葵的图，蓝色背景"},
        prompt="一张向日葵的图，蓝色背景",
    ),
    "Kolors-few-steps-with-Hyper": Card(
        ("eight steps instead of 25", "8 步代替 25 步"),
        (Shown(Run()),),
        {
            "KolorsLoraLoader.lora_name": FAST,
            "KolorsPromptEncode.text": "a sailboat on a pink background",
            "RandomNoise.noise_seed": 1,
        },
        prompt="a sailboat on a pink background",
    ),
    "Kolors-two-samplers-in-turn": Card(
        ("two samplers, one image", "两个采样器，一张图片"),
        (
            Shown(Run({"KSamplerSelect:2.sampler_name": "euler_ancestral"}), ("sampler 1", "采样器一"), "+"),
            Shown(Run({"KSamplerSelect.sampler_name": "dpmpp_2m"}), ("sampler 2", "采样器二"), "→"),
            Shown(Run()),
        ),
        {"KolorsPromptEncode.text": "a whale on a yellow background", "RandomNoise.noise_seed": 1},
        prompt="a whale on a yellow background",
    ),
    "Kolors-long-prompt": Card(
        ("prompts of up to 4096 tokens", "提示词可达 4096 个 token"),
        (Shown("page", ("prompt", "提示词"), "→"), Shown("both")),
    ),
    "Kolors-prompt-saved-to-a-file": Card(
        ("a prompt, kept in a file", "提示词存成文件"),
        (Shown(Run(), ("image", "图片"), "+"), Shown("file", ("file", "文件"))),
        {"KolorsPromptEncode.text": "a mushroom on a blue background", "KSampler.seed": 1},
        prompt="a mushroom on a blue background",
        even=True,
    ),
    "Kolors-without-the-text-encoder": Card(
        ("from a file, no text encoder", "读文件，不用文本编码器"),
        (Shown("file", ("prompt", "提示词"), "→"), Shown(Run())),
        {"KSampler.seed": 2},
        after="Kolors-prompt-saved-to-a-file",
    ),
}
