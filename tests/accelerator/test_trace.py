"""No line of the pack makes the host wait for the device, or uploads anything, once for every step."""

from __future__ import annotations

import json

import modes
import pytest

pytestmark = pytest.mark.host

SCENARIOS = ("plain", "a picture in a range", "prompts one by one", "a picture, prompts one by one")


@pytest.fixture(scope="module")
def grown(build_device, folder) -> dict[str, list]:
    """Events of the pack that are more where there are more steps, by scenario."""
    mode = modes.Mode("steps")
    build_device(mode.device)
    output = folder / "steps.json"
    modes.run_script(modes.HERE / "steps.py", mode, folder, output)
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_wait_and_no_upload_in_a_step(grown, scenario):
    lines = [
        f"{kind} {operator}: {shorter} and {longer} times at {ours}" + (f" in {first}" if first != ours else "")
        for kind, operator, ours, first, shorter, longer in grown[scenario]
    ]
    assert not lines, "\n".join(["these come with steps, of which the runs have 6 and 10:", *lines])
