"""The schedule tables against diffusers' schedulers."""

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.sampling import schedule
from reference import SCHEDULERS, SDXL_TABLE, build_scheduler

STRENGTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def reference_sigmas(reference):
    """Those of its steps and the end; LCM's, which knows products of alphas alone, from these."""
    if hasattr(reference, "sigmas"):
        return reference.sigmas
    alphas = reference.alphas_cumprod[reference.timesteps]
    return torch.cat([((1 - alphas) / alphas) ** 0.5, torch.zeros(1)])


@pytest.mark.parametrize("preset", SCHEDULERS)
def test_tables_equal_the_reference_for_1_to_100_steps(preset):
    reference = build_scheduler(preset)
    for steps in range(1, (schedule.PRESETS[preset].original_steps or 100) + 1):
        reference.set_timesteps(steps)
        assert schedule.timesteps(preset, steps).tolist() == reference.timesteps.tolist()
        torch.testing.assert_close(schedule.sigmas(preset, steps), reference_sigmas(reference), rtol=1e-6, atol=0)


def test_lcm_on_sdxls_table_equals_the_reference():
    reference = build_scheduler("lcm", **SDXL_TABLE)
    table = ((1 - reference.alphas_cumprod) / reference.alphas_cumprod) ** 0.5
    for steps in range(1, 51):
        reference.set_timesteps(steps)
        assert schedule.timesteps("lcm", steps, table).tolist() == reference.timesteps.tolist()
        found = schedule.sigmas("lcm", steps, 1.0, table)
        torch.testing.assert_close(found, reference_sigmas(reference), rtol=1e-6, atol=0)
    assert schedule.timesteps("lcm", 4, table).tolist() == [999, 759, 499, 259]


@pytest.mark.parametrize("preset", SCHEDULERS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_strength_keeps_the_references_part(preset, strength):
    """The rule of diffusers' image-to-image pipeline: skip all but the last int(steps * strength)."""
    reference = build_scheduler(preset)
    for steps in (1, 4, 10, 25, 50, 99):
        if steps > (schedule.PRESETS[preset].original_steps or steps):
            continue
        reference.set_timesteps(steps)
        kept = min(int(steps * strength), steps)
        found = schedule.sigmas(preset, steps, strength)
        assert schedule.kept_steps(steps, strength) == kept
        torch.testing.assert_close(
            found, reference_sigmas(reference)[steps - kept :] if kept else torch.empty(0), rtol=1e-6, atol=0
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


@pytest.mark.parametrize(("preset", "most"), [("euler", 1100), ("dpmpp_2m", 1099), ("lcm", 50)])
def test_more_steps_than_the_table_has_are_refused(preset, most):
    assert len(schedule.sigmas(preset, most)) == most + 1
    for steps in (0, most + 1):
        with pytest.raises(KolorsError, match=f"^{preset} has 1 to {most} steps, not {steps}\\. Set steps within"):
            schedule.sigmas(preset, steps)


def test_another_table_is_followed():
    table = schedule.train_sigmas()[:1000]
    assert schedule.timesteps("euler", 10, table)[0] == 901
    assert schedule.sigmas("dpmpp_2m_karras", 10, 1.0, table)[0] == pytest.approx(table[-1].item())


@pytest.mark.parametrize("text", ["999, 749,499 249", "999，749、499\n249", " ,999,749,,499,249, "])
@pytest.mark.parametrize("preset", [name for name, kind in schedule.PRESETS.items() if kind.takes_timesteps])
def test_train_steps_of_ones_own_stand_for_the_spacing(preset, text):
    table = schedule.train_sigmas()
    found = schedule.sigmas(preset, 7, own=text)
    assert torch.equal(found, torch.cat([table[[999, 749, 499, 249]], torch.zeros(1)]))
    assert torch.equal(schedule.sigmas(preset, 7, 0.5, own=text), found[2:])
    assert torch.equal(schedule.sigmas(preset, 7, own=" \n"), schedule.sigmas(preset, 7))


@pytest.mark.parametrize("preset", SCHEDULERS)
def test_presets_take_train_steps_where_the_references_scheduler_does(preset):
    try:
        build_scheduler(preset).set_timesteps(timesteps=[999, 499])
    except (TypeError, ValueError):
        with pytest.raises(KolorsError, match=f"{preset} takes no timesteps.*one of euler, dpmpp_2m, lcm"):
            schedule.sigmas(preset, 4, own="999, 499")
    else:
        assert len(schedule.sigmas(preset, 4, own="999, 499")) == 3


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("999, many, 3", "999, many, 3"),
        ("249, 499", "249, 499"),
        ("499, 499", "499, 499"),
        ("1100, 3", "1100, 3"),
        ("3, -1", "3, -1"),
        ("999.0", "999.0"),
        ("1e2", "1e2"),
        ("٣", "٣"),
        ("[999, 3]", r"\[999, 3\]"),
        (", ,", "without a number"),
        ("9" * 5000, "9{20}"),
        ("9 8 7 6 x", "9, 8, 7 and 2 more"),
    ],
)
def test_what_is_no_list_of_train_steps_is_shown(text, found):
    with pytest.raises(
        KolorsError, match=f"^The input timesteps is {found}\\. Expected .* from at most 1099 to at least 0"
    ):
        schedule.sigmas("euler", 4, own=text)
