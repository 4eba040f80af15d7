"""The sampler bridge over batches: a picture does not depend on what is sampled beside it."""

import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from reference import LATENT_TOLERANCE, relative_error
from sampling_runs import DETERMINISTIC, SEED, STOCHASTIC, ours, theirs
from stock_nodes import stock

pytestmark = pytest.mark.host

EXACT = 1e-5  # relative L2 of final latents: products of more rows are rounded in another way
ODD = (5, 7)  # latent cells of no multiple of 16 values, which torch draws in another way together than one by one


def node(name: str):
    """A latent node of the host as a function from LATENT to LATENT."""
    return lambda *inputs: stock(name)(*inputs)[0]


def draw(sampling, model, preset, latent, steps=4, denoise=1.0):
    inputs = {name: value for name, value in latent.items() if name != "samples"}
    shape, image = latent["samples"].shape, latent["samples"] * 0.13025
    return ours(sampling, model, preset, steps, shape=shape, image=image, denoise=denoise, **inputs)


def without_unet(model):
    """A clone that is quick: for what depends on the noise alone, each latent's prediction is made of itself."""
    quick = model.clone()
    quick.set_model_unet_function_wrapper(lambda apply_model, call: call["input"].tanh())
    return quick


def near(found, expected) -> bool:
    return found.shape == expected.shape and relative_error(found, expected) <= EXACT


def pictures(count: int, cells=(8, 8)) -> torch.Tensor:
    return torch.randn(count, 4, *cells, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("preset", [*DETERMINISTIC, *STOCHASTIC])
@pytest.mark.parametrize("cells", [(8, 8), (1, 1), ODD], ids=str)
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_parts_of_a_batch_give_the_pictures_of_the_batch(sampling, model, preset, cells, denoise):
    batch = {"samples": pictures(3, cells) if denoise < 1 else torch.zeros(3, 4, *cells)}
    if cells != (8, 8):
        model = without_unet(model)
    whole = draw(sampling, model, preset, batch, 5, denoise)
    assert len({picture.numpy().tobytes() for picture in whole}) == 3
    take = node("LatentFromBatch")
    for start, length in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3)]:
        part = draw(sampling, model, preset, take(batch, start, length), 5, denoise)
        assert near(part, whole[start : start + length]), (start, length)


@pytest.mark.parametrize("preset", ["euler", *STOCHASTIC])
@pytest.mark.parametrize("indices", [[4, 0], [2, 2, 2], [0, 4, 1, 3], (1,), range(1, 4)], ids=str)
def test_indices_choose_the_pictures(sampling, model, preset, indices):
    whole = draw(sampling, model, preset, {"samples": torch.zeros(5, 4, 8, 8)})
    part = {"samples": torch.zeros(len(indices), 4, 8, 8), "batch_index": indices}
    assert near(draw(sampling, model, preset, part), whole[list(indices)])


@pytest.mark.parametrize("preset", ["euler", *STOCHASTIC])
def test_the_first_picture_of_a_batch_is_the_one_drawn_alone(sampling, model, preset):
    """Alone it is the reference's, so the first of a batch is as well."""
    for cells in ((8, 8), ODD):
        whole = draw(sampling, model, preset, {"samples": torch.zeros(3, 4, *cells)})
        assert near(draw(sampling, model, preset, {"samples": torch.zeros(1, 4, *cells)}), whole[:1])


@pytest.mark.parametrize("preset", STOCHASTIC)
def test_a_longer_batch_begins_with_the_shorter_one(sampling, model, preset):
    repeat = node("RepeatLatentBatch")
    one = {"samples": torch.zeros(1, 4, 8, 8)}
    longer = draw(sampling, model, preset, repeat(one, 4))
    assert near(draw(sampling, model, preset, repeat(one, 2)), longer[:2])
    part = node("LatentFromBatch")({"samples": torch.zeros(2, 4, 8, 8)}, 1, 1)
    repeated = repeat(part, 3)
    assert repeated["batch_index"] == [1, 2, 3]
    assert near(draw(sampling, model, preset, repeated), longer[1:])


@pytest.mark.parametrize("preset", ["euler", *STOCHASTIC])
def test_equal_indices_give_equal_pictures(sampling, model, preset):
    fixed = node("LatentBatchSeedBehavior")({"samples": torch.zeros(2, 4, 8, 8)}, "fixed")
    first, second = draw(sampling, model, preset, fixed)
    assert torch.equal(first, second)


@pytest.mark.parametrize("preset", [*DETERMINISTIC, *STOCHASTIC])
def test_an_empty_latent_beside_a_picture_is_drawn_as_alone(sampling, model, preset):
    """The first noise of the one is scaled by sqrt(sigma^2 + 1), of the other by sigma."""
    empty, picture = {"samples": torch.zeros(1, 4, 8, 8)}, {"samples": pictures(1)}
    both = draw(sampling, model, preset, node("LatentBatch")(empty, picture))
    assert near(both[:1], draw(sampling, model, preset, empty))
    assert near(both[1:], draw(sampling, model, preset, picture))


@pytest.mark.parametrize("preset", STOCHASTIC)
def test_masks_are_taken_apart_with_the_batch(sampling, model, preset):
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, ..., :4] = mask[1, ..., 4:] = 1
    batch = {"samples": pictures(2), "noise_mask": mask}
    whole = draw(sampling, model, preset, batch, 5, 0.6)
    for index in range(2):
        part = node("LatentFromBatch")(batch, index, 1)
        assert near(draw(sampling, model, preset, part, 5, 0.6), whole[index : index + 1])


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_no_noise_is_drawn_twice_in_a_batch(sampling, seed):
    """Neither for another image nor for another step, and for the first image it is the reference's."""
    noise = sampling.ImageNoise(seed, list(range(6)), (6, 4, 8, 8), "cpu")
    drawn = torch.stack([noise() for _ in range(5)])
    generator = torch.Generator().manual_seed(seed)
    assert torch.equal(drawn[:, 0], torch.stack([torch.randn(1, 4, 8, 8, generator=generator)[0] for _ in range(5)]))
    alike = torch.corrcoef(drawn.flatten(0, 1).flatten(1)) - torch.eye(30)
    assert alike.abs().max() < 0.3  # 256 values each: 0.06


@pytest.mark.parametrize("preset", [*DETERMINISTIC, *STOCHASTIC])
def test_images_of_a_batch_are_not_alike(sampling, model, preset):
    """It was 0.34 and 0.40 where the others began with the host's first noise, which the first draws in its steps."""
    latent = {"samples": torch.zeros(3, 4, 16, 16)}
    alike = torch.corrcoef(draw(sampling, model, preset, latent, 10).flatten(1)) - torch.eye(3)
    assert alike.abs().max() < 0.15


def test_neighbouring_seeds_share_no_image(sampling):
    seeds = {sampling.image_seed(seed, index) for seed in range(100) for index in range(1, 100)}
    assert len(seeds) == 9900 and min(seeds) > 2**32


@pytest.mark.parametrize("preset", STOCHASTIC)
@pytest.mark.parametrize("denoise", [None, 0.6])
def test_a_batch_equals_the_reference_with_a_generator_for_each_image(sampling, model, unet, preset, denoise):
    shape, image = (3, 4, 8, 8), None if denoise is None else pictures(3)
    generators = [torch.Generator().manual_seed(sampling.image_seed(SEED, index)) for index in range(3)]
    expected = theirs(unet, preset, 10, shape=shape, denoise=denoise, image=image, generator=generators)
    found = ours(sampling, model, preset, 10, shape=shape, denoise=denoise or 1.0, image=image)
    assert relative_error(found, expected) <= LATENT_TOLERANCE


@pytest.mark.parametrize("preset", STOCHASTIC)
def test_what_draws_by_itself_is_seeded(sampling, model, preset):
    """A patch of the MODEL may add noise of torch's own generator."""
    drawn = []
    patched = model.clone()

    def draw_noise(apply, inputs):
        drawn.append(torch.randn(1).item())
        return apply(inputs["input"], inputs["timestep"], **inputs["c"])

    patched.set_model_unet_function_wrapper(draw_noise)
    for _ in range(2):
        draw(sampling, patched, preset, {"samples": torch.zeros(1, 4, 8, 8)}, 2)
    assert drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]


@pytest.mark.parametrize("indices", [[], [-1, 0], [0, 1, 2], [1]], ids=str)
def test_indices_that_do_not_fit_are_named(sampling, model, indices):
    latent = {"samples": torch.zeros(2, 4, 8, 8), "batch_index": indices}
    with pytest.raises(KolorsError, match="the LATENT has 2 images"):
        draw(sampling, model, "euler", latent)
