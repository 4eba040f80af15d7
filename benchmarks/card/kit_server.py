"""A real server on the device, as users run it; for kit_smoke.py: `kit_server.py FILE` writes what it found."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
from pathlib import Path

from kit_common import ROOT, WORK


def main() -> None:
    file = Path(sys.argv[1])
    try:
        outcome = real_server()
    except Exception as problem:
        traceback.print_exc()
        outcome = {"failed": f"{type(problem).__name__}: {problem}"[-1500:]}
    file.write_text(json.dumps(outcome), encoding="utf-8")


def real_server():
    """The demo as users run it: dev.py's server on the device, the miniature, a prompt and a picture prompt."""
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401 - the name comfyui_kolors; tests/server has a conftest.py too

    sys.path += [str(ROOT / "tests/server"), str(ROOT / "demo/train")]
    import data
    import judge
    import numpy
    import servers
    from comfyui_kolors.devtools import demo, places
    from comfyui_kolors.devtools.folders import link_pack
    from comfyui_kolors.devtools.miniature import make_tower
    from comfyui_kolors.devtools.progress import Progress, Step
    from comfyui_kolors.devtools.server import free_port, request, running_server
    from PIL import Image

    penguin = next(number for number, emoji in enumerate(data.EMOJI) if emoji.character == "🐧")
    asked = f"{data.EMOJI[penguin].zh[0]}，{data.COLOURS['pink'][1]}背景"
    base = WORK / "base"
    models = [f"models/{kind}" for kind in places.MODEL_FOLDERS]
    for name in ["custom_nodes", "input", "output", "user", "temp", *models]:
        (base / name).mkdir(parents=True, exist_ok=True)
    link_pack(base / "custom_nodes" / places.PACK_NAME, ROOT)
    setup = places.Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    began = time.perf_counter()
    make_tower(setup, Progress(1))
    outcome = {"vision encoder made, s": time.perf_counter() - began}
    began = time.perf_counter()
    with running_server(setup, Progress(2), free_port()) as server:
        outcome["server up, s"] = time.perf_counter() - began
        try:
            log = server.log.read_text(errors="replace")
            words = ("Device:", "VRAM", "attention", "pinned", "ersion", "cudaMalloc", "ERROR", "FAILED", "WARNING")
            lines = [line for line in log.splitlines() if any(word in line for word in words) and line[:1] != "*"]
            outcome["says"] = lines[:25]
            outcome["failed imports"] = servers.failed_imports(log)
            system = json.loads(request(f"{server.url}/system_stats"))
            outcome["device"] = system["devices"][0]["name"]
            step = Step("picture")
            pictures, expected = [], []
            for text, seed, image, shows in (
                (demo.DEMO_PROMPT, 1, None, None),
                (asked, 1, None, [penguin, "pink"]),
                ("蓝色背景", 3, "reference.png", [penguin, "blue"]),
            ):
                number, began = len(pictures) + 1, time.perf_counter()
                content = demo.draw(server, step, demo.build_prompt(text, "", seed, 25, (128, 128), image))
                outcome[f"picture {number}, s"] = time.perf_counter() - began
                pictures.append(numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
                shown = judge.to_pixels(pictures[-1])
                found = [judge.judge_emoji(shown)[0], judge.judge_colour(shown)]
                outcome[f"picture {number} shows"], wanted = found, shows
                expected.append(found == wanted or wanted is None)
                (base / "input/reference.png").write_bytes(content)
            Image.fromarray(numpy.concatenate(pictures, axis=1)).save(WORK / "server.png")
        finally:
            text = server.log.read_text(errors="replace")
            print("---- the server's log\n" + text[-20000:] + "\n---- end of it", flush=True)
            outcome["errors in its log"] = [line for line in text.splitlines() if "Error" in line or "!!!" in line][:10]
    outcome["ok"] = all(expected) and not outcome["failed imports"]
    return outcome


if __name__ == "__main__":
    main()
