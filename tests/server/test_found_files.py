"""Kolors in the folders of other packages, in a real ComfyUI: listed once, and the same picture as from our own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import layouts
import numpy
import pytest
import torch
from client import Client, Graph, KolorsGraph, PromptError
from comfyui_kolors.devtools.folders import link_pack
from comfyui_kolors.devtools.places import Setup
from comfyui_kolors.devtools.progress import Progress
from comfyui_kolors.devtools.server import free_port, running_server
from layouts import LAYOUTS, Layout

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
LOADERS = {
    "KolorsUNETLoader": "unet_name",
    "KolorsChatGLM3Loader": "text_encoder_name",
    "KolorsCheckpointLoader": "ckpt_name",
    "KolorsControlNetLoader": "control_net_name",
    "KolorsIPAdapterLoader": "ipadapter_name",
}
MINIATURE = {
    "KolorsUNETLoader": ["kolors-demo/unet/kolors-demo-unet.safetensors"],
    "KolorsChatGLM3Loader": ["kolors-demo/text_encoder/kolors-demo-chatglm3.safetensors"],
    "KolorsCheckpointLoader": ["kolors-demo"],
    "KolorsIPAdapterLoader": ["kolors-demo/ip_adapter/kolors-demo-ip-adapter.safetensors"],
}
#: The folders that KwaiKolorsWrapper, Kolors-MZ and Easy-Use tell the host of.
PACKAGES = """
import os
import folder_paths

NODE_CLASS_MAPPINGS = {}
for kind, *inner in (("LLM", "checkpoints"), ("LLM",), ("llm",)):
    folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, "LLM", *inner))
"""
ELSEWHERE = """
elsewhere:
    base_path: {}
    diffusers: D
    LLM: L
    checkpoints: C
    clip: T
    unet: U
"""


@pytest.fixture(scope="module")
def parts():
    return layouts.make_parts()


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, parts) -> tuple[Path, dict[str, Layout]]:
    """A base directory with every layout, the folders of extra_model_paths.yaml, and the layouts by name."""
    base = tmp_path_factory.mktemp("found") / "base"
    models, extra = base / "models", base / "extra"
    found = {name: write(models, parts) for name, write in LAYOUTS.items()}
    found["own"] = layouts.write_own(models, parts)
    layouts.put(parts.unet, extra / "D" / "mine" / "unet" / "kolors.safetensors")
    layouts.put_shards(parts.encoder, extra / "D" / "mine" / "text_encoder", "m-{:05}-of-{:05}.bin", layouts.INDEX)
    (extra / "D" / "mine" / "tokenizer").mkdir()
    (extra / "D" / "mine" / "tokenizer" / "tokenizer.model").write_bytes(parts.tokenizer)
    layouts.put(parts.vae, extra / "D" / "mine" / "vae" / "diffusion_pytorch_model.bin")
    index = f"diffusers/mine/text_encoder/{layouts.INDEX}"
    found["extra diffusers"] = Layout("diffusers/mine/unet/kolors.safetensors", index, "diffusers/mine")
    whole = parts.encoder | layouts.random_models.tokenizer_tensors(parts.tokenizer)
    for folder, name in (("L", "extra-L"), ("T", "extra-T")):
        layouts.put(whole, extra / folder / f"{name}.safetensors")
    for folder, name in (("C", "extra-C"), ("U", "extra-U")):
        layouts.put(parts.unet, extra / folder / f"{name}.safetensors")
    found["extra LLM, checkpoints"] = Layout("checkpoints/extra-C.safetensors", "extra-L.safetensors")
    found["extra clip, unet"] = Layout("extra-U.safetensors", "extra-T.safetensors")
    return base, found


@pytest.fixture(scope="module")
def server(laid_out):
    base, _ = laid_out
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "packages.py").write_text(PACKAGES)
    link_pack(base / "custom_nodes" / "comfyui-kolors", ROOT)
    (base / "extra.yaml").write_text(ELSEWHERE.format(base / "extra"))
    setup = Setup(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base)
    with running_server(setup, Progress(2), free_port(), base / "extra.yaml") as running:
        yield Client(running.url, base, running.log)


def listed(server: Client, loader: str) -> list[str]:
    info = server.request(f"/object_info/{loader}")[loader]["input"]["required"][LOADERS[loader]]
    return [name.replace(os.sep, "/") for name in (info[0] if isinstance(info[0], list) else info[1]["options"])]


def draw(server: Client, graph: KolorsGraph) -> torch.Tensor:
    return server.latent(graph, graph.sample())


@pytest.fixture(scope="module")
def own(server, laid_out) -> tuple[torch.Tensor, numpy.ndarray]:
    """The latent and the picture of our own folders."""
    layout = laid_out[1]["own"]
    graph = KolorsGraph(layout.unet, layout.encoder, "vae.safetensors")
    latent = draw(server, graph)
    return latent, server.image(graph, graph.sample())


def test_every_file_is_listed_once(server, laid_out):
    _, found = laid_out
    expected = {
        "KolorsUNETLoader": {layout.unet for layout in found.values()},
        "KolorsChatGLM3Loader": {layout.encoder for layout in found.values()},
        "KolorsCheckpointLoader": {layout.folder for layout in found.values() if layout.folder}
        | {"extra-C.safetensors"},
        "KolorsControlNetLoader": set(),
        "KolorsIPAdapterLoader": set(),
    }
    # Beside its fp16 UNet a snapshot has another one.
    expected["KolorsUNETLoader"] |= {
        layout.unet.replace(".fp16", "") for name, layout in found.items() if name.startswith("hub")
    }
    for loader, names in expected.items():
        miniature = MINIATURE.get(loader, [])
        assert listed(server, loader)[len(names) :] == miniature, "it is the last"
        assert sorted(listed(server, loader)) == sorted([*names, *miniature]), loader


@pytest.mark.parametrize("name", [*LAYOUTS, "extra diffusers", "extra LLM, checkpoints", "extra clip, unet"])
def test_the_picture_is_that_of_our_own_folders(server, laid_out, own, name):
    latent, picture = own
    layout = laid_out[1][name]
    assert torch.equal(draw(server, KolorsGraph(layout.unet, layout.encoder, "vae.safetensors")), latent)
    if layout.folder:
        graph = KolorsGraph(layout.unet, layout.encoder, "vae.safetensors")
        graph.model = graph.add("KolorsCheckpointLoader", ckpt_name=layout.folder)
        graph.clip, graph.vae = graph.model.output(1), graph.model.output(2)
        assert torch.equal(draw(server, graph), latent)
        assert numpy.array_equal(server.image(graph, graph.sample()), picture)


def test_names_that_are_not_in_the_list_run(server, laid_out, own):
    """A shard, a name that another package made shorter, and one with the separators of another system."""
    found = laid_out[1]
    encoders = {name for layout in found.values() for name in layout.unlisted}
    encoders |= {found["hub"].encoder.replace("/", "\\")}
    assert len(encoders) == 3 and not encoders & set(listed(server, "KolorsChatGLM3Loader"))
    for encoder in encoders:
        graph = KolorsGraph(found["own"].unet, encoder, "vae.safetensors")
        assert torch.equal(draw(server, graph), own[0])


@pytest.mark.parametrize("loader", LOADERS)
def test_a_name_without_a_file_is_refused_with_where_to_get_it(server, loader):
    graph = Graph()
    node = graph.add(loader, weight_dtype="default", **{LOADERS[loader]: "diffusers/../gone.safetensors"})
    graph.add("PreviewAny", source=node)
    with pytest.raises(PromptError, match=r"Value not in list: diffusers/\.\./gone\.safetensors was not") as refusal:
        server.queue(graph)
    assert refusal.value.kind == "validation" and "Put it in one of these folders" in str(refusal.value)
