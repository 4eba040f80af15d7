"""The schedule tables against diffusers' schedulers."""

import pytest
import torch
from comfyui_kolors.kolors_core.sampling import schedule
from reference import SCHEDULERS, build_scheduler

STRENGTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("preset", SCHEDULERS)
def test_tables_equal_the_reference_for_1_to_100_steps(preset):
    reference = build_scheduler(preset)
    for steps in range(1, 101):
        reference.set_timesteps(steps)
        assert schedule.timesteps(preset, steps).tolist() == reference.timesteps.tolist()
        torch.testing.assert_close(schedule.sigmas(preset, steps), reference.sigmas, rtol=1e-6, atol=0)


@pytest.mark.parametrize("preset", SCHEDULERS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_strength_keeps_the_references_part(preset, strength):
    """The rule of diffusers' image-to-image pipeline: skip all but the last int(steps * strength)."""
    reference = build_scheduler(preset)
    for steps in (1, 4, 10, 25, 50, 99):
        reference.set_timesteps(steps)
        kept = min(int(steps * strength), steps)
        found = schedule.sigmas(preset, steps, strength)
        assert schedule.kept_steps(steps, strength) == kept
        torch.testing.assert_close(
            found, reference.sigmas[steps - kept :] if kept else torch.empty(0), rtol=1e-6, atol=0
        )


def test_presets_are_those_of_the_tables():
    assert list(schedule.PRESETS) == list(SCHEDULERS)


def test_leading_schedules_start_below_the_largest_sigma():
    """Which is why the first noise is scaled here and not left to the host."""
    assert schedule.sigmas("euler", 10)[0].item() == pytest.approx(14.31, abs=0.01)
    assert schedule.sigmas("euler", 25)[0].item() == pytest.approx(21.78, abs=0.01)
    assert schedule.train_sigmas()[-1].item() == pytest.approx(29.06, abs=0.01)
    assert schedule.timesteps("dpmpp_2m", 25)[0] == schedule.timesteps("dpmpp_2m", 50)[0] == 1051


def test_deis_ends_above_zero():
    assert schedule.sigmas("deis", 10)[-1] == schedule.train_sigmas()[0] > 0
    assert schedule.sigmas("unipc", 10)[-1] == 0


@pytest.mark.parametrize(("preset", "most"), [("euler", 1100), ("dpmpp_2m", 1099)])
def test_more_steps_than_the_table_has_are_refused(preset, most):
    assert len(schedule.sigmas(preset, most)) == most + 1
    for steps in (0, most + 1):
        with pytest.raises(ValueError, match=f"{preset} has 1 to {most} steps, not {steps}"):
            schedule.sigmas(preset, steps)


def test_another_table_is_followed():
    table = schedule.train_sigmas()[:1000]
    assert schedule.timesteps("euler", 10, table)[0] == 901
    assert schedule.sigmas("dpmpp_2m_karras", 10, 1.0, table)[0] == pytest.approx(table[-1].item())
