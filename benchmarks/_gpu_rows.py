"""The rows of `gpu.py` for docs/performance.md: of what was measured so far and did not fail."""

from __future__ import annotations

from typing import Any

from _rows import Row, compared

VARIANTS = {
    "plain, batch 1": "Image of 25 steps",
    "plain, batch 4": "Image of 25 steps, in batches of 4",
    "channels last, batch 1": "Image of 25 steps, channels last",
    "compiled, batch 1": "Image of 25 steps, compiled",
}


def page_rows(report: dict[str, Any]) -> list[Row]:
    good = {section: figures for section, figures in report.items() if "failed" not in figures}
    rows = []
    for name, costs in good.get("encoder", {}).items():
        if name == "diffusers":
            continue
        other = good["encoder"].get("diffusers") if "error" in costs else None  # packed ones have no other side
        for key, unit, of in (("seconds", "s", ""), ("peak", "MiB", ", peak memory")):
            what = f"Prompt on the card, {name}{of}"
            if costs[key]:  # not every device tells its peak
                rows.append(compared(what, costs[key], other[key], unit) if other else Row(what, costs[key], unit))
    for variant, name in VARIANTS.items():
        sides = good.get("unet", {}).get(variant, {})
        if "ours" in sides and "diffusers" in sides:
            rows.append(compared(name, sides["ours"]["seconds"], sides["diffusers"]["seconds"]))
    if "vae" in good:
        rows.append(Row("Decoding with the VAE", good["vae"]["seconds"]))
        rows.append(Row("Decoding with the VAE, peak memory", good["vae"]["peak"], "MiB"))
    return rows
