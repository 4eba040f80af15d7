"""Does every part of the pack work on the device, and does it give what the CPU gives? At most 90 s.

Two processes run beside it: itself with `--reference FILE`, the cases on the CPU, and kit_server.py, a real server. Its
results are smoke.json and smoke.png.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from kit_common import ONLY, OUT, SLOW, STARTED, WORK, Report, Skip, enter_host, error, left, say, synchronize

END_SECONDS = 10 * SLOW  # kept back for the comparison at the end


def main() -> None:
    if sys.argv[1:2] == ["--reference"]:
        return reference(Path(sys.argv[2]))
    WORK.mkdir(parents=True, exist_ok=True)
    hidden = {"CUDA_VISIBLE_DEVICES": "", "KIT_DEVICE": "cpu", "FAKE_DEVICE": ""}  # a simulated device as well
    others = {
        "reference": start("reference.pt", [__file__, "--reference"], hidden),
        "server": start("server.json", [Path(__file__).with_name("kit_server.py")], {}),
    }
    report = Report("smoke")
    try:
        run(report, others)
    finally:
        for process, _ in others.values():
            process.send_signal(signal.SIGINT)  # a server must not outlive this
        for process, _ in others.values():
            try:
                process.wait(4)
            except subprocess.TimeoutExpired:
                process.kill()
        for name in others:
            print(f"---- output of {name}\n" + (WORK / f"{name}.log").read_text(errors="replace")[-30000:], flush=True)


def start(name: str, command: list, changes: dict) -> tuple[subprocess.Popen, Path]:
    """A script in a process beside this one, which writes the file of that name, its output beside that."""
    file = WORK / name
    file.unlink(missing_ok=True)
    with file.with_suffix(".log").open("wb") as log:
        command = [sys.executable, *command, file]
        return subprocess.Popen(command, env=os.environ | changes, stdout=log, stderr=log), file


def run(report: Report, others: dict) -> None:
    def enter():
        device = enter_host()
        return {"_device": device, "device": str(device)}

    entered = report.check("host on the device", enter, 60, always=True)
    if entered is None:
        raise SystemExit("the host does not start; kit.log has the reason")
    device = entered["_device"]
    import kit_device
    import torch
    from kit_cases import Models, cases

    report.check("facts", lambda: kit_device.facts(report, device), always=True)

    mode = torch.inference_mode()  # as the server runs every node; it ends with this object
    mode.__enter__()
    on_cpu = device.type == "cpu"
    torch.backends.cudnn.allow_tf32 = False  # what is compared is the code; the server below has the default
    models = Models(WORK / "models-device")
    found: dict[str, dict] = {}

    def case(name, one):
        if on_cpu and not one.on_cpu:
            raise Skip("needs an accelerator")
        tensors = one.run()
        synchronize(device)
        found[name] = {key: tensor.detach().float().cpu() for key, tensor in tensors.items()}
        bad = [key for key, tensor in found[name].items() if not tensor.isfinite().all()]
        return {"ok": False, "not finite": bad} if bad else None

    all_cases = cases(models)
    for name, one in all_cases.items():
        if left() < END_SECONDS:
            report.data["checks"][name] = {"outcome": "no time"}
            continue
        report.check(name, lambda name=name, one=one: case(name, one), limit=20)
        if name == "IP-Adapter":  # in the middle, lest a slow machine leaves these out
            for other, check in kit_device.CHECKS.items():
                report.check(other, lambda check=check: check(models, device, report), limit=25)
    for name, one in kit_device.no_room_runs(models).items():
        check = lambda one=one: kit_device.no_room(one, device)  # noqa: E731
        report.check(f"no room for weights, {name}", check, 20, need=END_SECONDS)
    report.check("a real server", lambda: served(*others["server"]), limit=max(5, left() - END_SECONDS / 2))
    compare(report, *others["reference"], found, all_cases)
    count = Counter(entry["outcome"] for entry in report.data["checks"].values())
    report.fact("outcomes", dict(count))
    say(f"smoke: {dict(count)} in {time.time() - STARTED:.0f} s")


def served(process: subprocess.Popen, file: Path):
    """What the process beside this one found."""
    process.wait(max(1, left() - END_SECONDS / 2))
    outcome = json.loads(file.read_text(encoding="utf-8"))
    if "failed" in outcome:
        raise RuntimeError(outcome["failed"])
    return outcome


# ---- the CPU's side -------------------------------------------------------------------------------------------------


def reference(file: Path) -> None:
    """Write what the cases give on the CPU; after every one, so that a stop leaves the others."""
    enter_host()
    import torch
    from kit_cases import Models, cases

    mode = torch.inference_mode()
    mode.__enter__()
    result = {}
    for name, one in cases(Models(WORK / "models-cpu")).items():
        if not one.on_cpu or (ONLY and not re.search(ONLY, name)):
            continue
        try:
            result[name] = {key: tensor.detach().float() for key, tensor in one.run().items()}
        except Exception as problem:
            result[name] = f"{type(problem).__name__}: {problem}"
            print(name, result[name], flush=True)
        partial = file.with_suffix(".part")
        torch.save(result, partial)
        partial.replace(file)
    print("done", flush=True)


def compare(report: Report, other: subprocess.Popen, file: Path, found: dict, all_cases: dict) -> None:
    """Note how far each case is from the CPU's, and draw both pictures side by side."""
    import torch

    try:
        other.wait(max(1, left() - 6))
    except subprocess.TimeoutExpired:
        say("the reference on the CPU is not whole")
    if not file.is_file():
        say("no reference from the CPU: " + (WORK / "reference.log").read_text(errors="replace")[-600:])
        return
    expected = torch.load(file, weights_only=True)
    for name, tensors in found.items():
        # What only an accelerator computes is compared with what it stands for.
        theirs = expected.get(name if all_cases[name].on_cpu else "picture, UNet fp32")
        entry = report.data["checks"][name]
        if not isinstance(theirs, dict):
            entry["on the CPU"] = theirs or "missing"
            continue
        errors = {key: error(tensor, theirs[key]) for key, tensor in tensors.items() if key in theirs}
        entry["error"] = errors
        allowed = {"picture": max(all_cases[name].tolerance, 0.05)}  # the host's VAE computes in bf16 on a GPU
        wrong = [key for key, value in errors.items() if not value <= allowed.get(key, all_cases[name].tolerance)]
        if "picture" in tensors:
            difference = (tensors["picture"] - theirs["picture"]).abs()
            entry["picture"] = {
                "max of 255": 255 * difference.max().item(),
                "mean of 255": 255 * difference.mean().item(),
            }
        if wrong and entry["outcome"] == "ok":
            entry |= {"outcome": "WRONG", "tolerance": all_cases[name].tolerance}
            say(f"WRONG    {name}: {errors}, at most {all_cases[name].tolerance}")
    report.write()
    draw_pictures({name: t["picture"] for name, t in found.items() if "picture" in t}, expected)


def draw_pictures(pictures: dict, expected: dict) -> None:
    """smoke.png: the CPU's picture, then the device's by UNet dtype; below, the server's."""
    import numpy
    from PIL import Image

    row = [t["picture"] for name, t in expected.items() if name == "picture, UNet fp32" and isinstance(t, dict)]
    row += pictures.values()
    if not row:
        return
    rows = [numpy.concatenate([(each[0].clamp(0, 1) * 255).round().byte().numpy() for each in row], axis=1)]
    if (WORK / "server.png").is_file():
        rows.append(numpy.asarray(Image.open(WORK / "server.png").convert("RGB")))
    width = max(each.shape[1] for each in rows)
    pad = [numpy.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0))) for each in rows]
    Image.fromarray(numpy.concatenate(pad)).save(OUT / "smoke.png")


if __name__ == "__main__":
    main()
