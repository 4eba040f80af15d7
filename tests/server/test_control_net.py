"""ControlNets in graphs: applied by the stock nodes, beside everything else, and what users load by mistake."""

from __future__ import annotations

import pytest
import torch
import vision_tower
from client import KolorsGraph, Link, PromptError, distance
from comfyui_kolors.demo.random_models import TINY, Sizes, random_control_net, random_ip_adapter, random_unet
from image_prompts import picture
from loras import random_pairs, written
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

CANNY, DEPTH, SDXL, SD15 = "canny.safetensors", "depth.safetensors", "sdxl.safetensors", "sd15.safetensors"
ADAPTER, LORA = "adapter-for-control.safetensors", "for-control.safetensors"
WRONG = "adapter-in-controlnet.safetensors"


@pytest.fixture(scope="module", autouse=True)
def files(server) -> None:
    """The ControlNets, and what stands beside them in one graph."""
    models = server.base / "models"
    for folder in ("controlnet", "ipadapter", "loras"):
        (models / folder).mkdir(exist_ok=True)
    for seed, name in enumerate((CANNY, DEPTH)):
        save_file(random_control_net(TINY, seed=seed).state_dict(), models / "controlnet" / name)
    save_file(random_control_net(TINY, label_width=2816).state_dict(), models / "controlnet" / SDXL)
    save_file(random_control_net(Sizes(context=768), label_width=2816).state_dict(), models / "controlnet" / SD15)
    adapter = random_ip_adapter(TINY, vision_tower.SMALL_WIDTH)
    save_file(adapter, models / "ipadapter" / ADAPTER)
    save_file(adapter, models / "controlnet" / WRONG)
    lora = written(random_pairs(random_unet(TINY)), "unet.{}".format, ".lora.down.weight", ".lora.up.weight")
    save_file(lora, models / "loras" / LORA)
    (server.base / "input").mkdir(exist_ok=True)
    pixels = (picture(96, 64)[0] * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(server.base / "input" / "hint.png")


class ControlGraph(KolorsGraph):
    """The plain graph with ControlNets on its prompts."""

    def __init__(self):
        super().__init__()
        self.positive, self.negative = self.encode(), self.encode("")

    def control(self, name: str = CANNY, model: Link | None = None, **changes) -> None:
        """Apply a ControlNet to both prompts; `changes` are the stock node's own inputs."""
        inputs = {"control_net_name": name} | ({"model": model} if model else {})
        settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0} | changes
        self.positive = self.add(
            "ControlNetApplyAdvanced",
            positive=self.positive,
            negative=self.negative,
            control_net=settings.pop("control_net", None) or self.add("KolorsControlNetLoader", **inputs),
            image=settings.pop("image", None) or self.edges(),
            **settings,
        )
        self.negative = self.positive.output(1)

    def edges(self) -> Link:
        image = self.add("LoadImage", image="hint.png")
        return self.add("Canny", image=image, low_threshold=0.1, high_threshold=0.3)

    def draw(self, server, **changes) -> torch.Tensor:
        return server.latent(self, self.sample(self.positive, self.negative, **changes))


def draw(server, *controls, **sampling) -> torch.Tensor:
    """The latent of the plain graph with ControlNets, each the settings of one."""
    graph = ControlGraph()
    for settings in controls:
        graph.control(**settings)
    return graph.draw(server, **sampling)


@pytest.fixture(scope="module")
def controlled(server, files):
    """The latent of the plain graph with one ControlNet."""
    return draw(server, {})


def test_a_control_net_changes_the_image_and_a_seed_repeats_it(server, plain, controlled):
    assert distance(controlled, plain) > 0.01
    server.free()
    assert torch.equal(draw(server, {}), controlled)
    assert torch.equal(draw(server), plain)


@pytest.mark.parametrize("changes", [{"strength": 0.5}, {"end_percent": 0.5}, {"start_percent": 0.5}, {"name": DEPTH}])
def test_another_setting_gives_another_image(server, plain, controlled, changes):
    latent = draw(server, changes)
    assert distance(latent, controlled) > 1e-4
    assert distance(latent, plain) > 1e-4


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"end_percent": 0.0}])
def test_what_counts_nowhere_is_bit_equal_to_none(server, plain, changes):
    assert torch.equal(draw(server, changes), plain)


def test_two_at_once_are_neither_of_them(server, controlled):
    both, other = draw(server, {}, {"name": DEPTH}), draw(server, {"name": DEPTH})
    assert distance(both, controlled) > 0.001
    assert distance(both, other) > 0.001


def test_one_of_sdxl_is_adapted_to_the_connected_model(server, plain):
    graph = ControlGraph()
    graph.control(SDXL, graph.model)
    assert distance(graph.draw(server), plain) > 0.001


def test_a_mask_tells_where_it_counts(server):
    """Of two conditions, of which the left half's has a ControlNet."""

    def latent(controlled: bool):
        graph = ControlGraph()
        left, right = graph.add("SolidMask", value=1.0, width=64, height=128), graph.positive
        if controlled:
            graph.control()
        black = graph.add("SolidMask", value=0.0, width=128, height=128)
        mask = graph.add("MaskComposite", destination=black, source=left, x=0, y=0, operation="add")
        positives = [
            graph.add("ConditioningSetMask", conditioning=text, mask=where, strength=1.0, set_cond_area="default")
            for text, where in ((graph.positive, mask), (right, graph.add("InvertMask", mask=mask)))
        ]
        graph.positive = graph.add("ConditioningCombine", conditioning_1=positives[0], conditioning_2=positives[1])
        graph.negative = graph.encode("")
        return graph.draw(server, latent=graph.empty_latent(128, 128), steps=1)

    change = latent(True) - latent(False)
    left, right = change.tensor_split(2, dim=-1)
    assert left.norm() > 0.1
    assert right.norm() == 0


def test_everything_in_one_graph(server):
    """LoRA, IP-Adapter, two ControlNets of which one is SDXL's, two areas, and a second pass at a larger size.

    Leaving out any of them changes the image, so each counts.
    """
    parts = ("lora", "adapter", "control", "sdxl", "area")
    latents = [compose(server, set(parts) - {left_out}) for left_out in ("nothing", *parts)]
    for index, latent in enumerate(latents):
        assert latent.shape == (1, 4, 12, 20)
        for other in latents[:index]:
            assert distance(latent, other) > 1e-4
    server.free()
    assert torch.equal(compose(server, set(parts)), latents[0])


def compose(server, parts: set[str]) -> torch.Tensor:
    graph = ControlGraph()
    if "lora" in parts:
        graph.model = graph.add(
            "KolorsLoraLoader",
            model=graph.model,
            clip=graph.clip,
            lora_name=LORA,
            strength_model=0.8,
            strength_clip=1.0,
        )
    if "area" in parts:
        areas = [
            graph.add(
                "ConditioningSetArea", conditioning=graph.encode(text), width=64, height=64, x=x, y=0, strength=1.0
            )
            for text, x in (("a red apple", 0), ("一只蓝鸟", 64))
        ]
        for area in areas:
            graph.positive = graph.add("ConditioningCombine", conditioning_1=graph.positive, conditioning_2=area)
    if "control" in parts:
        graph.control(strength=0.7, end_percent=0.9)
    if "sdxl" in parts:
        graph.control(SDXL, graph.model, strength=0.5)
    if "adapter" in parts:
        tower = graph.add("KolorsTestTower")
        graph.model = graph.add(
            "KolorsIPAdapterApply",
            model=graph.model, ipadapter=graph.add("KolorsIPAdapterLoader", ipadapter_name=ADAPTER), clip_vision=tower,
            image=graph.add("LoadImage", image="hint.png"), weight=0.6, start_at=0.0, end_at=1.0,
        )  # fmt: skip
    first = graph.sample(graph.positive, graph.negative, graph.empty_latent(128, 64))
    larger = graph.add(
        "LatentUpscale", samples=first, upscale_method="nearest-exact", width=160, height=96, crop="disabled"
    )
    return graph.draw(server, latent=larger, denoise=0.5)


# ---- what users load by mistake -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (SDXL, ("is an SDXL ControlNet", "connect the MODEL of 'Load Kolors UNet'")),
        (SD15, ("is a ControlNet of SD1.5 (text width 768)", "Expected one of Kolors or of SDXL")),
        (WRONG, ("is an IP-Adapter", "Expected a ControlNet of Kolors or of SDXL", "Kolors-ControlNet-Canny")),
    ],
)
def test_wrong_files_are_named_and_the_queue_goes_on(server, plain, name, words):
    with pytest.raises(PromptError) as failure:
        draw(server, {"name": name})
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsControlNetLoader")
    for part in (name, str(server.base / "models" / "controlnet"), *words):
        assert part in str(failure.value)
    server.free()
    assert torch.equal(draw(server), plain)


@pytest.mark.parametrize("name", [CANNY, SDXL])
def test_the_stock_loader_does_not_end_the_queue(server, plain, name):
    """It reads no ControlNet of other sizes than it knows; a file with SD names loads, and is named when it is used."""
    graph = ControlGraph()
    loaded = graph.add("ControlNetLoader", control_net_name=name)
    graph.control(control_net=loaded)
    with pytest.raises(PromptError) as failure:
        graph.draw(server)
    assert failure.value.node == "ControlNetLoader"
    server.free()
    assert torch.equal(draw(server), plain)


def test_one_of_the_stock_loader_is_named_where_it_is_used(server, plain, sd_layout):
    graph = ControlGraph()
    graph.control(control_net=graph.add("ControlNetLoader", control_net_name=sd_layout))
    with pytest.raises(PromptError, match="Load it with 'Load Kolors ControlNet'") as failure:
        graph.draw(server)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KSampler")
    server.free()
    assert torch.equal(draw(server), plain)


@pytest.fixture(scope="module")
def sd_layout(server, files) -> str:
    """A ControlNet with SD names, whose sizes the stock loader reads from its tensors."""
    from comfyui_kolors.kolors_core.host.control_net import to_sd_names

    name = "sd-layout.safetensors"
    folder = server.base / "models" / "controlnet"
    save_file(to_sd_names(load_file(folder / CANNY)), folder / name)
    return name


def test_a_file_with_sd_names_loads(server, controlled, sd_layout):
    assert torch.equal(draw(server, {"name": sd_layout}), controlled)
