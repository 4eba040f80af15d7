"""The words of the tables on docs/performance.md in both languages.

`{}` in a name stands for a number or a storage, in the same order in both.
"""

from __future__ import annotations

import re

VALUE = re.compile(r"\b(?:\d+(?:[.,]\d+)*|fp\d+(?:_\w+)?|bf16|int[48])\b")

WORDS = {
    "en": {
        "headings": ("", "This package", "Compared with", "Ratio"),
        "thread": "{} thread",
        "threads": "{} threads",
        "raw": "Raw figures: `{}`.",
        "listed": ", ",
        "end": ".",
        "note": " ({})",
        "beside": "{} ({})",
        "s": "s",
        "ms": "ms",
    },
    "zh": {
        "headings": ("", "本插件", "对照", "比值"),
        "thread": "{} 个线程",
        "threads": "{} 个线程",
        "raw": "原始数据：`{}`。",
        "listed": "，",
        "end": "。",
        "note": "（{}）",
        "beside": "{}（{}）",
        "s": "秒",
        "ms": "毫秒",
    },
}

#: Of the rows and of what they are compared with.
CHINESE = {
    "Prompt of {} tokens, float32": "编码 {} 个 token 的提示词，float32",
    "Prompts of {} and {} tokens together, float32": "一起编码 {} 个和 {} 个 token 的两条提示词，float32",
    "Prompt of {} tokens, two layers at the released width, float32": "编码 {} 个 token，两层，与发布版同宽，float32",
    "Reading the weights once": "读一遍权重",
    "Reading the weights once, two layers at the released width": "读一遍权重，两层，与发布版同宽",
    "Prompt of {} tokens, stored in {}": "编码 {} 个 token 的提示词，以 {} 存放",
    "Prompt, over its tokens": "编码提示词，随 token 数增长",
    "Next prompt, released size, {}": "之后的提示词，发布版大小，{}",
    "First prompt, released size, {}": "第一条提示词，发布版大小，{}",
    "Loading, released size, {}": "加载，发布版大小，{}",
    "Memory of loading and encoding, released size, {}": "加载并编码的内存峰值，发布版大小，{}",
    "Prompt, {} layers of the released size, {}": "编码提示词，发布版中的 {} 层，{}",
    "Guided step, {} px": "带引导的一步，{} px",
    "Step, over the tokens of the prompt": "一步，随提示词的 token 数增长",
    "Step, over the area of the image": "一步，随图像面积增长",
    "Step, over the batch": "一步，随批量增长",
    "Sampling, over the steps": "采样，随步数增长",
    "From prompt to latents, {} steps at {} px": "从提示词到 Latent，{} 步，{} px",
    "Another image of the same prompt, {} steps at {} px": "同一提示词再画一张，{} 步，{} px",
    "First image of a process, from files, {} steps at {} px": "进程里的第一张图，从文件开始，{} 步，{} px",
    "Loading text encoder and UNet": "加载文本编码器和 UNet",
    "Loading text encoder and UNet, memory": "加载文本编码器和 UNet 占用的内存",
    "Loading a text encoder, over the size of the file": "加载文本编码器，随文件大小增长",
    "Loading and drawing, memory needed, {} px, batch {}": "加载并作画，需要的内存，{} px，批量 {}",
    "Loading and drawing, memory held, {} px, batch {}": "加载并作画，占用的内存，{} px，批量 {}",
    "Step with {} IP-Adapter, {} px": "带 {} 个 IP-Adapter 的一步，{} px",
    "Step with {} IP-Adapters, {} px": "带 {} 个 IP-Adapter 的一步，{} px",
    "Step with {} ControlNet, {} px": "带 {} 个 ControlNet 的一步，{} px",
    "Step with {} ControlNets, {} px": "带 {} 个 ControlNet 的一步，{} px",
    "Step with {} LoRA in the weights, {} px": "带 {} 个 LoRA（已并入权重）的一步，{} px",
    "Step with {} LoRAs in the weights, {} px": "带 {} 个 LoRA（已并入权重）的一步，{} px",
    "Step with {} LoRA that waits, {} px": "带 {} 个 LoRA（每步临时计算）的一步，{} px",
    "Step with {} LoRAs that wait, {} px": "带 {} 个 LoRA（每步临时计算）的一步，{} px",
    "What a step with {} IP-Adapter takes more": "{} 个 IP-Adapter 让一步多花",
    "What a step with {} IP-Adapters takes more": "{} 个 IP-Adapter 让一步多花",
    "What a step with {} ControlNet takes more": "{} 个 ControlNet 让一步多花",
    "What a step with {} ControlNets takes more": "{} 个 ControlNet 让一步多花",
    "What a step with {} LoRA in the weights takes more": "{} 个 LoRA（已并入权重）让一步多花",
    "What a step with {} LoRAs in the weights takes more": "{} 个 LoRA（已并入权重）让一步多花",
    "What a step with {} LoRA that waits takes more": "{} 个 LoRA（每步临时计算）让一步多花",
    "What a step with {} LoRAs that wait takes more": "{} 个 LoRA（每步临时计算）让一步多花",
    "Step, over the number of IP-Adapters": "一步，随 IP-Adapter 个数增长",
    "Step, over the number of ControlNets": "一步，随 ControlNet 个数增长",
    "Step, over the number of LoRAs in the weights": "一步，随 LoRA（已并入权重）个数增长",
    "Step, over the number of LoRAs that wait": "一步，随 LoRA（每步临时计算）个数增长",
    "Start of ComfyUI": "启动 ComfyUI",
    "Import of the package, as ComfyUI says": "ComfyUI 自己报告的插件导入时间",
    "First image after the start of a server": "从启动服务器到第一张图",
    "Second image of that server": "该服务器的第二张图",
    "Image through the engine for many prompts": "批量出图程序每张图",
    "First lists of {} files": "第一次列出 {} 个文件",
    "Later lists of {} files": "之后列出 {} 个文件",
    "First lists of {} files, all in checkpoints": "第一次列出 {} 个文件，全部在 checkpoints 里",
    "Later lists of {} files, all in checkpoints": "之后列出 {} 个文件，全部在 checkpoints 里",
    "First lists, over the files": "第一次列出文件，随文件数增长",
    "Later lists, over the files": "之后列出文件，随文件数增长",
    "Converting {} graphs": "转换 {} 个旧工作流",
    "Converting a graph, over its nodes": "转换工作流，随节点数增长",
    "Reading {} damaged files": "读取 {} 个损坏的文件",
    "The slowest of them": "其中最慢的一个",
    "Memory that they leave": "读完后留下的内存",
    "Prompt on the card, {}": "在显卡上编码提示词，{}",
    "Prompt on the card, {}, peak memory": "在显卡上编码提示词，{}，显存峰值",
    "Image of {} steps": "一张图，{} 步",
    "Image of {} steps, in batches of {}": "一张图，{} 步，每批 {} 张",
    "Image of {} steps, channels last": "一张图，{} 步，通道在后",
    "Image of {} steps, compiled": "一张图，{} 步，经过编译",
    "Decoding with the VAE": "VAE 解码",
    "Decoding with the VAE, peak memory": "VAE 解码，显存峰值",
    # compared with
    "diffusers": "diffusers",
    "float32": "float32",
    "reading the weights once": "读一遍权重",
    "ComfyUI's SDXL, torch attention": "ComfyUI 原生 SDXL，torch 注意力",
    "without the package": "不装本插件",
    "its first answer": "服务器能应答时",
    "a plain loop": "普通循环",
    "their JSON alone": "只读写 JSON",
    "JSON": "只读写 JSON",
    "whole files": "完好的文件",
}

#: What the plot of a benchmark shows.
PLOTS = {
    "en": {
        "unet": "Time of a step over tokens, size, batch and number of steps",
        "text_encoder": "Time of a prompt over its tokens",
        "additions": "Time of a step over the number of IP-Adapters, ControlNets and LoRAs",
        "load": "Time of loading over the size of the file",
        "migration": "Time of conversion over the number of nodes",
    },
    "zh": {
        "unet": "一步的耗时随 token 数、尺寸、批量和步数的变化",
        "text_encoder": "编码提示词的耗时随 token 数的变化",
        "additions": "一步的耗时随 IP-Adapter、ControlNet 和 LoRA 个数的变化",
        "load": "加载的耗时随文件大小的变化",
        "migration": "转换的耗时随节点数的变化",
    },
}


def translated(name: str, language: str) -> str:
    """A name in a language; in English where nobody has translated it."""
    known = CHINESE.get(VALUE.sub("{}", name)) if language == "zh" else None
    return name if known is None else known.format(*VALUE.findall(name))
