"""Imports the pack as the host does, loads one file of every kind, draws, and says what Python was asked to do.

    python audited.py BASE    with COMFYUI_PATH set; BASE is a ComfyUI base directory with the files that are named here

Prints one JSON object: for each stage the audit events that have to do with the network, with other programs, with code
in pickles, and with changes to files.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import pickle
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WATCHED = (
    "socket.connect",
    "socket.bind",
    "socket.get",
    "socket.send",
    "urllib.",
    "http.",
    "ftplib.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
)
WATCHED += ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
WATCHED += ("shutil.", "tempfile.", "pickle.find_class")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

events: dict[str, list[str]] = defaultdict(list)
stage = ""


def watch(event: str, arguments: tuple) -> None:
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    if stage and (writes or event.startswith(WATCHED)):
        events[stage].append(f"{event} {arguments[:2]}")


def main(base: Path) -> None:
    global stage
    sys.dont_write_bytecode = True
    sys.path[:] = [os.environ["COMFYUI_PATH"], *sys.path[1:]]
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, str(base)
    importlib.import_module("utils.extra_config")  # first, as main.py has it: the host's nodes.py hides that folder
    server = importlib.import_module("server")
    server.PromptServer(asyncio.new_event_loop())  # the host is there before any pack, and no part of this
    import torch

    sys.addaudithook(watch)
    stage = "import"
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = pack
    spec.loader.exec_module(pack)

    def run(node: str, *inputs, **options):
        node = pack.NODE_CLASS_MAPPINGS[node]
        node.INPUT_TYPES()
        return getattr(node(), node.FUNCTION)(*inputs, **options)

    with torch.inference_mode():
        stage = "load"
        (model,) = run("KolorsUNETLoader", "kolors-random-unet.safetensors", "default")
        (clip,) = run("KolorsChatGLM3Loader", "kolors-random-chatglm3.safetensors", "int8")
        run("KolorsCheckpointLoader", "checkpoint.ckpt")
        run("KolorsControlNetLoader", "control-net.safetensors")
        run("KolorsIPAdapterLoader", "adapter.bin")
        (model, *_) = run("KolorsLoraLoader", model, "lora.safetensors", 1.0, 1.0)
        stage = "draw"
        positive, negative = (run("KolorsPromptEncode", clip, text)[0] for text in ("a red apple", ""))
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        run("KolorsKSampler", model, 1, 2, 5.0, "euler", positive, negative, latent, 1.0)
        stage = "save"
        run("KolorsConditioningSave", positive, "conditioning/saved", "fp32")
        image_prompt = sys.modules["pack.kolors_core.files.image_prompt"]
        prompt = image_prompt.ImagePrompt.of(torch.ones(1, 577, 64), torch.zeros(1, 577, 64))
        run("KolorsImagePromptSave", prompt, "image_prompts/saved", "fp16")
        stage = "load what was saved"
        run("KolorsConditioningLoad", "conditioning/saved_00001_.safetensors [output]")
        run("KolorsImagePromptLoad", "image_prompts/saved_00001_.safetensors [output]")
    stage = "forbidden"
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", 9))
    subprocess.run([sys.executable, "--version"], stdout=subprocess.DEVNULL)
    pickle.loads(pickle.dumps(Path()))
    (base / "forbidden").touch()
    stage = ""
    print(json.dumps(events))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
