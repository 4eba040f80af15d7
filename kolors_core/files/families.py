"""The model families that users mistake for Kolors, by the width of what they read."""

from __future__ import annotations

SD15, SD2, SDXL, SDXL_REFINER = "SD1.5", "SD2", "SDXL", "SDXL's refiner"
#: Width of the text embeddings that a family's cross attention reads.
TEXT_WIDTHS = {768: SD15, 1024: SD2, 1280: SDXL_REFINER, 2048: SDXL}
#: Width of the text embeddings that an encoder gives: those of Kolors, and the pooled one of SDXL beside them.
ENCODER_WIDTHS = TEXT_WIDTHS | {1280: SDXL, 4096: "ChatGLM3 or T5"}
#: Width of the states that a CLIP vision encoder gives, for encoders that Kolors does not use.
VISION_WIDTHS = {1280: "ViT-H", 1664: "ViT-bigG"}
