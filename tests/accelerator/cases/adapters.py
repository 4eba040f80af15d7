"""Pictures and faces as prompts."""

from __future__ import annotations

from torch import Tensor

from . import files
from .pack import image_prompt, ip_adapter, save_image_prompt
from .parts import (
    draw,
    empty_latent,
    half_mask,
    load,
    picture,
    prompts_in_areas,
    tower,
    two_pictures,
    with_face,
    with_lora,
    with_picture,
)


def face_after_sampling() -> Tensor:
    model = load()
    draw(model)
    return draw(with_face(model))


def two_adapters() -> Tensor:
    model = with_picture(load())
    return draw(with_picture(model, files.other_ip_adapter, picture(2), weight=0.5))


def one_picture_per_latent() -> Tensor:
    return draw(with_picture(load(), images=two_pictures(), one_per_latent=True), latent=empty_latent(3))


def combined_pictures() -> dict[str, Tensor]:
    """Beside each other and one without the other, through a file, each with two weights."""
    prompts = [image_prompt.encode(tower(), picture(seed)) for seed in (1, 2)]
    adapter = ip_adapter.load_ip_adapter(files.ip_adapter())
    model, latents = load(), {}
    for method in ("concat", "difference"):
        path = files.FOLDER / "image_prompt.safetensors"
        save_image_prompt(path, image_prompt.combine(*prompts, method, 1.0, 0.5))
        prompt = image_prompt.load(path)
        for weight in (0.8, 0.3):
            influence = ip_adapter.Influence(weight, 0.0, 1.0)
            latents[f"{method} {weight}"] = draw(ip_adapter.apply_image_prompt(model, adapter, prompt, influence))
    return latents


CASES = {
    "ip plain": lambda: draw(with_picture(load())),
    "ip range": lambda: draw(with_picture(load(), start=0.2, end=0.7), steps=6),
    "ip style": lambda: draw(with_picture(load(), weight_type="style")),
    "ip mask": lambda: draw(with_picture(load(), mask=half_mask())),
    "ip mask and range, batch": lambda: draw(
        with_picture(load(), mask=half_mask(2), start=0.1), latent=empty_latent(2)
    ),
    "ip two pictures": lambda: draw(with_picture(load(), images=two_pictures()), latent=empty_latent(2)),
    "ip one per latent": one_picture_per_latent,
    "ip combined": combined_pictures,
    "ip two adapters": two_adapters,
    "ip with areas": lambda: draw(with_picture(load(), mask=half_mask()), cond=prompts_in_areas()),
    "ip on lora, fp8": lambda: draw(with_picture(with_lora(load(dtype="fp8_e4m3fn")))),
    "faceid": lambda: draw(with_face(load())),
    "faceid two": lambda: draw(with_face(load(), 2)),
    "faceid on lora": lambda: draw(with_face(with_lora(load()))),
    "faceid after sampling": face_after_sampling,
}
