"""What another model, or a LoRA, changes."""

from __future__ import annotations

from .card import BLUE, GUIDED, RESTYLED, UNET, Card, Run, Shown

CARDS = {
    "Kolors-LoRA": Card(
        ("the same prompt with a LoRA", "同一提示词，加上 LoRA"),
        (
            Shown(Run({"KolorsLoraLoader.strength_model": 0.0}), ("without", "不用 LoRA"), "→"),
            Shown(Run({"KolorsLoraLoader.strength_model": 1.0}), ("with", "用 LoRA")),
        ),
        {
            "KolorsLoraLoader.lora_name": BLUE,
            "CLIPTextEncode.text": "一只小狗，黄色背景",
            "KSampler.seed": 2,
        },
        prompt="一只小狗，黄色背景",
        even=True,
    ),
    "Kolors-two-models-in-turn": Card(
        ("one begins, the other goes on", "一个模型起笔，另一个接着画"),
        (
            Shown(Run({"KolorsUNETLoader:2.unet_name": UNET}), ("model 1", "模型一"), "+"),
            Shown(Run({"KolorsUNETLoader.unet_name": RESTYLED}), ("model 2", "模型二"), "→"),
            Shown(Run()),
        ),
        {
            "KolorsUNETLoader:2.unet_name": RESTYLED,
            "CLIPTextEncode.text": "a dog on a yellow background",
            "KSamplerAdvanced.noise_seed": 1,
            "KSamplerAdvanced.end_at_step": 4,
            "KSamplerAdvanced:2.start_at_step": 4,
        },
        prompt="a dog on a yellow background",
    ),
    "Kolors-merge-two-models": Card(
        ("a mixture of two models", "两个模型的混合"),
        (
            Shown(Run({"ModelMergeSimple.ratio": 1.0}), ("model 1", "模型一"), "+"),
            Shown(Run({"ModelMergeSimple.ratio": 0.0}), ("model 2", "模型二"), "→"),
            Shown(Run({"ModelMergeSimple.ratio": 0.3})),
        ),
        {
            "KolorsUNETLoader:2.unet_name": RESTYLED,
            "KolorsPromptEncode.text": "a dog on a yellow background",
            "KSampler.seed": 2,
        },
        prompt="a dog on a yellow background",
    ),
    "Kolors-UNet-distilled-with-guidance": Card(
        ("guidance inside the UNet", "引导强度在 UNet 里"),
        (Shown(Run()),),
        {
            "KolorsUNETLoader.unet_name": GUIDED,
            "KolorsPromptEncode.text": "a strawberry on a blue background",
            "KolorsKSampler.seed": 1,
        },
        prompt="a strawberry on a blue background",
    ),
    "Kolors-train-a-LoRA": Card(
        ("teaches the model a new word", "教模型一个新词"),
        (Shown(Run(output="PreviewImage:2"), ("before", "训练前"), "→"), Shown(Run(), ("after", "训练后"))),
        prompt="koko",
        even=True,
    ),
}
