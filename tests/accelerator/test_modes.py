"""Every case in every mode of an accelerator gives what it gives on the CPU."""

from __future__ import annotations

import compare
import modes
import pytest

pytestmark = pytest.mark.host


@pytest.mark.parametrize("mode", modes.MODES, ids=lambda mode: mode.name)
def test_every_case_is_as_on_the_cpu(mode, build_device, request, folder, host_version, matrix):
    if not mode.can_be_on(host_version):
        pytest.skip(f"ComfyUI {host_version} has no dynamic VRAM; it is there from {'.'.join(map(str, mode.since))} on")
    build_device(mode.device)
    expected = request.getfixturevalue("on_cpu")  # late, for it takes a minute
    cells = compare.compare(modes.run(mode, folder), expected, mode.tolerance, mode.refusal)
    matrix[mode.name] = cells
    failed = [f"{case}: {cell}" for case, cell in cells.items() if not cell.is_good]
    assert not failed, "\n".join([f"{len(failed)} of {len(cells)} cases", *failed])
