"""Counts the bytes that go to the device for each of three prompts, by what the encoder is stored in.

python tests/accelerator/prompts.py RESULT.json --base-directory FOLDER HOST-FLAGS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matrix import enter_host

STORAGES = ("fp16", "int8", "int4")
PROMPTS = ("a red apple", "two blue birds in a green tree", "一只红苹果")


def uploads(storage: str) -> list[int]:
    """Bytes of the weights, then those that each prompt sends to the device."""
    from cases import files
    from cases.pack import loaders
    from cases.parts import encode
    from fake_accelerator import trace

    clip = loaders.load_text_encoder(files.middle_encoder(), storage)
    found = [clip.patcher.model_size()]
    for text in PROMPTS:
        trace.sizes.clear()
        encode(clip, text)
        found.append(sum(size for (kind, *_), size in trace.sizes.items() if kind.startswith("h2d")))
    return found


def main(output: Path, flags: list[str]) -> None:
    enter_host(flags)
    import fake_accelerator
    import torch

    fake_accelerator.trace.start(fake_accelerator.native)
    with torch.inference_mode():
        output.write_text(json.dumps({storage: uploads(storage) for storage in STORAGES}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
