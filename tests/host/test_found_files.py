"""Kolors' models in the folders of other packages: each listed once under a lasting name, and loaded from there."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from pathlib import Path

import layouts
import pytest
import torch
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY
from comfyui_kolors.kolors_core.errors import KolorsError
from gguf_files import write as write_gguf
from layouts import HALF, INDEX, LAYOUTS, put
from safetensors.torch import save_file
from sampling_runs import ours

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("diffusion_models", "text_encoders", "controlnet", "ipadapter", "checkpoints")
MINIATURE = (
    "kolors-demo/unet/kolors-demo-unet.safetensors",
    "kolors-demo/text_encoder/kolors-demo-chatglm3.safetensors",
    "",
    "kolors-demo/ip_adapter/kolors-demo-ip-adapter.safetensors",
    "kolors-demo",
)


@pytest.fixture(scope="module")
def parts():
    return layouts.make_parts()


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The host's folders of models, in a directory of their own, and no miniature."""
    import folder_paths
    from comfyui_kolors.kolors_core.host import found_files

    monkeypatch.setattr(found_files, "MINIATURE_FOLDER", tmp_path / "none")

    folder = tmp_path / "models"
    known = folder_paths.folder_names_and_paths
    monkeypatch.setattr(folder_paths, "models_dir", str(folder))
    for kind, (paths, extensions) in list(known.items()):
        if kind.lower() == "llm":
            monkeypatch.delitem(known, kind)
        else:
            own = [str(folder / Path(path).name) for path in paths]
            monkeypatch.setitem(known, kind, (own, extensions))
    monkeypatch.setitem(known, "ipadapter", ([str(folder / "ipadapter")], set()))
    for paths, _ in known.values():
        for path in paths:
            os.makedirs(path, exist_ok=True)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return folder


@pytest.fixture
def files():
    from comfyui_kolors.kolors_core.host import model_files, unet

    unet.register()
    return model_files


def register(kind: str, folder: Path, first: bool = False) -> None:
    """As a package or extra_model_paths.yaml does."""
    import folder_paths

    folder_paths.add_model_folder_path(kind, str(folder), is_default=first)


def native(*names: str) -> list[str]:
    return [name.replace("/", os.sep) for name in names]


def unet_file(path: Path, prefix: str = "", seed: int = 0) -> Path:
    put({prefix + key: tensor for key, tensor in random_models.random_unet(TINY, seed=seed).state_dict().items()}, path)
    return path


# ---- listing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_file_is_listed_once_under_the_folder_it_is_in(models, files, parts, name):
    layout = LAYOUTS[name](models, parts)
    assert [one for one in files.list_files("diffusion_models") if HALF in one or "kolors" in one] == native(
        layout.unet
    )
    assert files.list_files("text_encoders") == native(layout.encoder)
    assert files.list_files("checkpoints") == native(
        *filter(None, [layout.folder or layout.unet.rpartition("/unet")[0]])
    )
    assert files.list_files("controlnet") == files.list_files("ipadapter") == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_found_is_what_our_own_folders_give(models, files, parts, sampling, tmp_path, name):
    """The encoder's states, the picture's latent and the VAE's pixels, bit by bit."""
    from comfyui_kolors.kolors_core.host import checkpoint
    from comfyui_kolors.kolors_core.host.diffusers_folder import load_vae
    from comfyui_kolors.kolors_core.host.text_encoder.load import load_text_encoder
    from comfyui_kolors.kolors_core.host.unet_file import load_unet

    layout = LAYOUTS[name](models, parts)
    layouts.write_own(tmp_path / "own", parts)

    def draw(model, clip):
        states, pooled = clip.encode_from_tokens(clip.tokenize("一只红苹果, a red apple"), return_pooled=True)
        return states, pooled, ours(sampling, model, "euler", 2)

    expected = draw(
        load_unet(str(tmp_path / "own/diffusion_models/unet.safetensors")),
        load_text_encoder(str(tmp_path / "own/text_encoders/chatglm3.safetensors")),
    )
    for encoder in (layout.encoder, layout.encoder.replace("/", "\\"), *layout.unlisted):
        model = load_unet(files.resolve("diffusion_models", layout.unet))
        found = draw(model, load_text_encoder(files.resolve("text_encoders", encoder)))
        assert all(map(torch.equal, found, expected))
    if layout.folder:
        model, clip, vae = checkpoint.load_checkpoint(files.resolve("checkpoints", layout.folder))
        assert all(map(torch.equal, draw(model, clip), expected))
        samples = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        own = load_vae(str(tmp_path / "own/vae/vae.safetensors"))
        assert torch.equal(vae.decode(samples), own.decode(samples))


def test_a_folder_without_encoder_and_vae_gives_the_model_alone(models, files):
    from comfyui_kolors.kolors_core.host import checkpoint

    unet_file(models / "diffusers/Kolors/unet/renamed.safetensors")
    model, clip, vae = checkpoint.load_checkpoint(files.resolve("checkpoints", "diffusers/Kolors"))
    assert model is not None and clip is None
    with pytest.raises(RuntimeError, match="does not contain a valid VAE"):
        vae.throw_exception_if_invalid()


def test_half_precision_is_taken_before_full_and_safetensors_before_others(models, parts):
    from comfyui_kolors.kolors_core.host.found_files import find_part

    folder = models / "diffusers" / "Kolors"
    order = [
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.bin",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
    ]
    for name in order:
        unet_file(folder / "unet" / name)
        found = find_part(str(folder), "unet", "diffusion_models")
        assert found == str(folder / "unet" / name)
    put(parts.vae, folder / "unet" / "a.fp16.safetensors")
    assert find_part(str(folder), "unet", "diffusion_models") == found, "by content"


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside others"])
def test_the_miniature_of_the_package_is_listed_last(models, files, parts, monkeypatch, others):
    """By the lists of our own nodes alone, so that it is the first only where there is no other model."""
    from comfyui_kolors.kolors_core.host import found_files

    monkeypatch.setattr(found_files, "MINIATURE_FOLDER", ROOT / "demo" / "models")
    before = {kind: [] for kind in KINDS}
    if others:
        unet_file(models / "diffusion_models" / "z.safetensors")
        put(parts.encoder, models / "LLM" / "z.safetensors")
        unet_file(models / "diffusers" / "z" / "unet" / HALF)
        before |= {
            "diffusion_models": ["z.safetensors", *native(f"diffusers/z/unet/{HALF}")],
            "text_encoders": ["z.safetensors"],
            "checkpoints": native("diffusers/z"),
        }
    miniature = {kind: native(*([name] if name else [])) for kind, name in zip(KINDS, MINIATURE)}
    assert {kind: files.list_files(kind) for kind in KINDS} == {kind: before[kind] + miniature[kind] for kind in KINDS}
    for kind, name in zip(KINDS, MINIATURE):
        for written in filter(None, (name, name.replace("/", "\\"))):
            assert files.resolve(kind, written) == os.path.join(ROOT, "demo", "models", *native(name))


def test_a_part_that_is_something_else_is_named(models, files, parts):
    from comfyui_kolors.kolors_core.host import checkpoint

    put(parts.vae, models / "diffusers" / "Other" / "unet" / HALF)
    assert files.list_files("checkpoints") == files.list_files("diffusion_models") == []
    with pytest.raises(KolorsError, match="Expected a Kolors UNet"):
        checkpoint.load_checkpoint(files.resolve("checkpoints", "diffusers/Other"))
    unet_file(models / "diffusers/Kolors/unet" / HALF)
    put({"a": torch.zeros(4)}, models / "diffusers/Kolors/vae" / HALF)
    with pytest.raises(KolorsError, match="is no VAE"):
        checkpoint.load_checkpoint(files.resolve("checkpoints", "diffusers/Kolors"))
    put(parts.vae | {"decoder.conv_in.bias": torch.zeros(3)}, models / "diffusers/Kolors/vae" / HALF)
    with pytest.raises(KolorsError, match="damaged VAE"):
        checkpoint.load_checkpoint(files.resolve("checkpoints", "diffusers/Kolors"))
    shutil.rmtree(models / "diffusers/Kolors/unet")
    (models / "diffusers/Kolors/unet").mkdir()
    with pytest.raises(KolorsError, match="no weights in unet"):
        checkpoint.load_checkpoint(str(models / "diffusers/Kolors"))
    with pytest.raises(FileNotFoundError):
        files.resolve("checkpoints", "diffusers/Kolors")


def test_every_kind_is_told_by_content_in_every_place(models, files, parts):
    """Under a name that says nothing, and as a torch file."""
    for place in ("diffusers", "LLM", "checkpoints"):
        for suffix in ("safetensors", "bin"):
            unet_file(models / place / f"a.{suffix}")
            put(parts.encoder, models / place / f"b.{suffix}")
            put(random_models.random_control_net(TINY).state_dict(), models / place / f"c.{suffix}")
            put(random_models.random_ip_adapter(TINY, 64), models / place / f"d.{suffix}")
            put(parts.vae, models / place / f"e.{suffix}")
            unet_file(models / place / f"f.{suffix}", "model.diffusion_model.")
            put({"unet.conv_in.lora_A.weight": torch.zeros(2, 2)}, models / place / f"g.{suffix}")
    found = {kind: files.list_files(kind) for kind in KINDS}
    everywhere = [
        f"{place}/{{}}.{suffix}" for place in ("LLM", "checkpoints", "diffusers") for suffix in ("bin", "safetensors")
    ]

    def under(letters: str) -> list[str]:
        return sorted(native(*(name.format(letter) for name in everywhere for letter in letters)))

    assert found["diffusion_models"] == under("af")
    assert found["text_encoders"] == sorted(native(*(one.removeprefix("LLM/") for one in under("b"))))
    assert found["controlnet"] == under("c")
    assert found["ipadapter"] == under("d")
    own = native(*(f"{letter}.{suffix}" for letter in "abcdefg" for suffix in ("bin", "safetensors")))
    assert found["checkpoints"] == own + [name for name in under("f") if not name.startswith("checkpoints")]


def test_the_own_files_of_a_kind_are_listed_first_and_whatever_they_are(models, files):
    for name in ("z.safetensors", "diffusers/Kolors/x.safetensors"):
        put({"a": torch.zeros(4)}, models / "diffusion_models" / name)
    unet_file(models / "diffusers" / "Kolors" / "x.safetensors")
    unet_file(models / "diffusers" / "a.safetensors")
    own = native("diffusers/Kolors/x.safetensors", "z.safetensors")
    assert files.list_files("diffusion_models") == [*own, *native("diffusers/a.safetensors")]
    assert files.resolve("diffusion_models", own[0]).startswith(str(models / "diffusion_models")), (
        "the host's name wins"
    )


def test_a_file_in_two_folders_by_links_is_listed_once(models, files):
    """Under the name that no link is part of; the others still load."""
    real = unet_file(models / "diffusers" / "Kolors" / "unet" / HALF)
    (models / "diffusers" / "A").symlink_to(models / "diffusers" / "Kolors", target_is_directory=True)
    (models / "diffusers" / "Kolors" / "a.safetensors").symlink_to(real)
    (models / "checkpoints" / "Kolors.safetensors").symlink_to(real)
    assert files.list_files("diffusion_models") == native(f"diffusers/Kolors/unet/{HALF}")
    assert files.list_files("checkpoints") == native("Kolors.safetensors", "diffusers/Kolors")
    for name in (f"diffusers/A/unet/{HALF}", "diffusers/Kolors/a.safetensors", "checkpoints/Kolors.safetensors"):
        assert os.path.samefile(files.resolve("diffusion_models", name), real)
    (models / "diffusion_models" / "mine.safetensors").symlink_to(real)
    assert files.list_files("diffusion_models") == ["mine.safetensors"]


def test_a_circle_of_links_ends(models, files):
    unet_file(models / "diffusers" / "Kolors" / "unet" / HALF)
    for name in ("a", "b", "c"):
        (models / "diffusers" / "Kolors" / name).symlink_to(models / "diffusers", target_is_directory=True)
    (models / "diffusers" / "gone.safetensors").symlink_to(models / "gone.safetensors")
    (models / "diffusers" / "itself").symlink_to(models / "diffusers" / "itself")
    started = time.perf_counter()
    assert files.list_files("diffusion_models") == native(f"diffusers/Kolors/unet/{HALF}")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("kinds", [(), ("LLM",), ("LLM", "llm")])
def test_a_name_does_not_depend_on_which_packages_are_installed(models, files, parts, kinds):
    """KwaiKolorsWrapper adds models/LLM/checkpoints, Kolors-MZ models/LLM, Easy-Use the same as another kind."""
    for kind in kinds:
        register(kind, models / "LLM" / "checkpoints" if kind == "LLM" else models / "LLM")
    path = models / "LLM" / "checkpoints" / "chatglm3.safetensors"
    put(parts.encoder, path)
    assert files.list_files("text_encoders") == native("checkpoints/chatglm3.safetensors")
    for name in ("checkpoints/chatglm3.safetensors", "checkpoints\\chatglm3.safetensors", "chatglm3.safetensors"):
        assert files.resolve("text_encoders", name) == str(path)
        assert files.validate("text_encoders", name) is True


def test_extra_model_paths(models, files, parts, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for kind in ("diffusers", "LLM", "checkpoints", "clip", "unet"):
        register(kind, elsewhere / kind, first=kind == "unet")
    layouts.write_wrapper(elsewhere, parts)
    put(parts.encoder, elsewhere / "LLM" / "a.safetensors")
    put(parts.encoder, elsewhere / "clip" / "b.safetensors")
    unet_file(elsewhere / "unet" / "c.safetensors")
    unet_file(elsewhere / "checkpoints" / "d.safetensors")
    found = f"diffusers/Kolors/unet/{HALF}", f"diffusers/Kolors/text_encoder/{INDEX}"
    assert files.list_files("diffusion_models") == native("c.safetensors", "checkpoints/d.safetensors", found[0])
    assert files.list_files("text_encoders") == native("b.safetensors", "a.safetensors", found[1])
    assert files.list_files("checkpoints") == native("d.safetensors", "diffusers/Kolors")
    assert files.resolve("diffusion_models", found[0]) == str(elsewhere / found[0])


def test_a_place_that_is_itself_a_diffusers_folder(models, files, tmp_path):
    register("diffusers", tmp_path / "Kolors")
    unet_file(tmp_path / "Kolors" / "unet" / HALF)
    assert files.list_files("checkpoints") == ["diffusers"]
    assert files.resolve("checkpoints", "diffusers") == str(tmp_path / "Kolors")


def test_a_gguf_file_is_listed_by_its_first_bytes(models, files):
    pytest.importorskip("gguf")
    (models / "LLM").mkdir()
    for name, family in (("yes", "chatglm"), ("no", "llama")):
        write_gguf(models / "LLM" / f"{name}.gguf", architecture=family)
    assert files.list_files("text_encoders") == ["yes.gguf"]


def test_what_cannot_be_read_is_not_listed(models, files, parts):
    places = [models / "diffusers" / "Kolors" / name for name in ("unet", "text_encoder")]
    layouts.write_wrapper(models, parts)
    whole = (places[0] / HALF).read_bytes()
    os.remove(places[1] / "pytorch_model-00002-of-00003.bin")
    broken = {
        "cut.safetensors": whole[:1000],
        "long.safetensors": struct.pack("<Q", 1 << 60) + whole[8:],
        "list.safetensors": safetensors(["encoder_hid_proj.weight"]),
        "shape.safetensors": safetensors({"encoder_hid_proj.weight": {"shape": "a"}, "conv_out.weight": {}}),
        "deep.safetensors": safetensors(None, b"[" * 100_000 + b"encoder_hid_proj.weight"),
        "empty.safetensors": b"",
        "page.bin": b"<!DOCTYPE html>" * 100,
        "zip.bin": b"PK\x03\x04" + b"encoder_hid_proj.weight" * 100,
        "legacy.bin": b"\x80\x02encoder_hid_proj.weight",
        "bad.safetensors.index.json": b"{",
    }
    for name, content in broken.items():
        (places[0] / name).write_bytes(content)
    os.mkfifo(places[0] / "pipe.safetensors")
    assert files.list_files("diffusion_models") == native(f"diffusers/Kolors/unet/{HALF}")
    assert files.list_files("text_encoders") == []
    assert files.list_files("checkpoints") == native("diffusers/Kolors")


def safetensors(header: object, text: bytes = b"") -> bytes:
    text = text or json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + (text if text.startswith(b"{") else b"{" + text)


def test_nothing_is_read_a_second_time_unless_it_has_changed(models, files, parts, monkeypatch):
    from comfyui_kolors.kolors_core.host import walk

    layouts.write_wrapper(models, parts)
    path = unet_file(models / "checkpoints" / "a.safetensors")
    put(parts.vae, models / "checkpoints" / "b.safetensors")
    first = [files.list_files(kind) for kind in KINDS]
    read: list[str] = []
    find = walk.find_kinds
    monkeypatch.setattr(walk, "find_kinds", lambda path: read.append(os.path.basename(path)) or find(path))
    assert [files.list_files(kind) for kind in KINDS] == first and not read
    save_file({"a": torch.zeros(1)}, path)
    assert native("checkpoints/a.safetensors")[0] not in files.list_files("diffusion_models")
    assert read == ["a.safetensors"]


def test_a_folder_that_changed_is_read_again(models, files):
    """Long after it was read for the first time, and however a file comes or goes."""
    from comfyui_kolors.kolors_core.host import walk

    folder = models / "diffusers" / "Kolors"
    unet_file(folder / "a.safetensors")
    os.utime(folder, (1e9, 1e9))
    assert files.list_files("diffusion_models") == native("diffusers/Kolors/a.safetensors")
    assert str(folder) in walk.FOLDERS
    (folder / "a.safetensors").rename(folder / "b.safetensors")
    assert files.list_files("diffusion_models") == native("diffusers/Kolors/b.safetensors")
    (folder / "c").symlink_to(models / "later", target_is_directory=True)
    os.utime(folder, (1.1e9, 1.1e9))
    assert files.list_files("diffusion_models") == native("diffusers/Kolors/b.safetensors")
    unet_file(models / "later" / "d.safetensors")
    assert files.list_files("diffusion_models") == native(
        *(f"diffusers/Kolors/{one}.safetensors" for one in ("b", "c/d"))
    )


def test_many_other_files_are_listed_in_no_time(models, files):
    """Without Kolors' marks a header is not parsed: 2,000 checkpoints with the keys of one of SDXL's blocks."""
    keys = {f"model.diffusion_model.input_blocks.{i}.1.norm.weight": {"shape": [4], "dtype": "F16"} for i in range(300)}
    content = safetensors(keys)
    for number in range(2000):
        (models / "checkpoints" / f"{number}.safetensors").write_bytes(content)
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        assert files.list_files("diffusion_models") == []
        spent.append(time.perf_counter() - started)
    assert spent[0] < 2 and spent[1] < 0.5, spent


# ---- finding --------------------------------------------------------------------------------------------------------

OUTSIDE = [
    "diffusers/../secret.safetensors",
    "diffusers/a/../../secret.safetensors",
    "diffusers\\..\\secret.safetensors",
]
OUTSIDE += ["diffusers/{base}/secret.safetensors", "diffusers//secret.safetensors", "checkpoints/../secret.safetensors"]
OUTSIDE += [
    "../secret.safetensors",
    "{base}/secret.safetensors",
    "LLM/../secret.safetensors",
    "diffusers/./secret.safetensors",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_folders(models, files, kind, name):
    unet_file(models / "secret.safetensors")
    (models / "diffusers" / "a").mkdir()
    name = name.format(base=models)
    with pytest.raises(FileNotFoundError, match="was not found"):
        files.resolve(kind, name)
    assert str(files.validate(kind, name)).startswith("Value not in list")


def test_what_is_no_weight_file_is_not_found(models, files):
    (models / "diffusers" / "Kolors").mkdir()
    (models / "diffusers" / "Kolors" / "model_index.json").write_text("{}")
    for name in ("diffusers/Kolors/model_index.json", "diffusers/Kolors", "diffusers", "", 5):
        for kind in KINDS:
            refusal = files.validate(kind, name)
            assert isinstance(refusal, str) and "was not found" in refusal


def test_a_refused_name_says_where_to_get_the_file_and_a_link_is_not_judged(models, files):
    refusal = files.validate("text_encoders", "gone.safetensors")
    assert "Value not in list: gone.safetensors" in refusal and "ChatGLM3-safetensors" in refusal
    assert files.validate("text_encoders", None) is True


@pytest.mark.parametrize(
    "changed",
    [f"unet/{HALF}", "text_encoder/pytorch_model-00002-of-00003.bin", "text_encoder/tokenizer.model", f"vae/{HALF}"],
)
def test_the_fingerprint_of_a_folder_follows_every_file_in_it(models, files, parts, changed):
    layout = layouts.write_wrapper(models, parts)
    names = {"checkpoints": layout.folder, "text_encoders": layout.encoder, "diffusion_models": layout.unet}
    before = {kind: files.fingerprint(kind, name) for kind, name in names.items()}
    assert before == {kind: files.fingerprint(kind, name) for kind, name in names.items()}
    os.utime(models / "diffusers/Kolors" / changed, (1, 1))
    after = {kind: files.fingerprint(kind, name) for kind, name in names.items()}
    own = {"unet/": "diffusion_models", "pytorch_model-": "text_encoders"}
    expected = {"checkpoints", *(kind for mark, kind in own.items() if mark in changed)}
    assert {kind for kind in names if after[kind] != before[kind]} == expected


def test_the_prompt_of_a_found_encoder_needs_no_other_tokenizer(models, files, parts, tmp_path):
    """That of a diffusers folder lies beside the encoder's folder."""
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer_file import find_tokenizer

    layout = layouts.write_hub(models, parts)
    path = files.resolve("text_encoders", layout.encoder)
    assert Path(find_tokenizer(path, 512).source).parts[-2:] == ("tokenizer", "tokenizer.model")


# ---- cost -----------------------------------------------------------------------------------------------------------


def count_calls(monkeypatch, files) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How often the lists of all kinds, as in a request of the host's, look at files and folders; and the lists."""
    import folder_paths

    folder_paths.filename_list_cache.clear()
    calls = dict.fromkeys(("stat", "scandir", "open"), 0)

    def counted(name):
        function = getattr(os, name)

        def call(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return call

    with folder_paths.cache_helper:
        for kind in folder_paths.folder_names_and_paths:
            folder_paths.get_filename_list(kind)  # not counted: the host's own
        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, counted(name))
            lists = {kind: files.list_files(kind) for kind in (*KINDS, "loras")}
    return calls, lists


def write_others(models: Path, count: int) -> None:
    content = safetensors({"conv_in.weight": {"shape": [4], "dtype": "F16"}})
    for folder in ("checkpoints/a", "checkpoints/b"):
        (models / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count // 2):
            (models / folder / f"{number}.safetensors").write_bytes(content)


def settle(models: Path) -> None:
    """Make the folders ones that changed long ago."""
    for folder, _, _ in os.walk(models):
        os.utime(folder, (1e9, 1e9))


def test_a_request_opens_each_file_once_and_the_next_one_looks_at_folders_alone(models, files, monkeypatch):
    """However many files there are: 20 and 200 of other models beside one of ours, in the same folders."""
    first, later = {}, {}
    for count in (20, 200):
        write_others(models, count)
        unet_file(models / "checkpoints" / "a" / f"kolors {count}.safetensors")
        shutil.rmtree(models / "checkpoints" / "c", ignore_errors=True)
        settle(models)
        with monkeypatch.context() as patch:
            from comfyui_kolors.kolors_core.host import walk

            patch.setattr(walk, "KINDS", {})
            patch.setattr(walk, "FOLDERS", {})
            first[count], names = count_calls(monkeypatch, files)
            later[count], again = count_calls(monkeypatch, files)
        assert names == again and native(f"checkpoints/a/kolors {count}.safetensors")[0] in names["diffusion_models"]
        os.remove(models / "checkpoints" / "a" / f"kolors {count}.safetensors")
    folders = sum(1 for _ in os.walk(models))
    for count, calls in first.items():
        assert calls["open"] == count + 1, "each file once"
        assert calls["scandir"] <= folders
    assert later[20] == later[200]
    assert later[200]["open"] == later[200]["scandir"] == 0 and later[200]["stat"] < 2 * folders


def test_what_was_read_ahead_is_not_opened_by_the_first_request(models, files, monkeypatch):
    from comfyui_kolors.kolors_core.host import found_files, walk

    monkeypatch.setattr(walk, "KINDS", {})
    monkeypatch.setattr(walk, "FOLDERS", {})
    write_others(models, 20)
    unet_file(models / "checkpoints" / "a" / "kolors.safetensors")
    settle(models)
    found_files.read_ahead().join(60)
    calls, names = count_calls(monkeypatch, files)
    assert calls["open"] == 0 and native("checkpoints/a/kolors.safetensors")[0] in names["diffusion_models"]


def test_outside_of_a_request_nothing_is_kept(models, files):
    import folder_paths

    with folder_paths.cache_helper:
        assert files.list_files("diffusion_models") == []
        unet_file(models / "checkpoints" / "a.safetensors")
        assert files.list_files("diffusion_models") == [], "one answer for the whole request"
    assert files.list_files("diffusion_models") == native("checkpoints/a.safetensors")
    (models / "checkpoints" / "a.safetensors").unlink()
    assert files.list_files("diffusion_models") == []


@pytest.mark.parametrize("length", [0, 5, 100, -10, -1])
@pytest.mark.parametrize("allocated", [False, True], ids=["growing", "allocated before"])
def test_a_file_is_listed_once_it_is_whole(models, files, tmp_path, length, allocated):
    """A download that grows in place, and one whose file has its full size from the start; the folder is the same."""
    whole = unet_file(tmp_path / "whole.safetensors").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    part = whole[: length if length >= 0 else start + length]
    path = models / "checkpoints" / "a.safetensors"
    path.write_bytes(part + bytes(len(whole) - len(part)) * allocated)
    settle(models)
    for _ in range(2):
        assert files.list_files("diffusion_models") == []
    with path.open("r+b") as file:
        file.write(whole)
    assert files.list_files("diffusion_models") == native("checkpoints/a.safetensors")


def test_what_takes_the_place_of_another_model_is_listed(models, files, tmp_path):
    """By a rename, which changes the folder, and behind a link, which does not."""
    kolors = unet_file(tmp_path / "kolors.safetensors").read_bytes()
    other = safetensors({"conv_in.weight": {"shape": [4], "dtype": "F16"}})
    (tmp_path / "linked").write_bytes(other)
    (models / "checkpoints" / "link.safetensors").symlink_to(tmp_path / "linked")
    (models / "checkpoints" / "a.safetensors").write_bytes(other)
    settle(models)
    assert files.list_files("diffusion_models") == []
    (tmp_path / "new").write_bytes(kolors)
    (tmp_path / "new").replace(tmp_path / "linked")
    assert files.list_files("diffusion_models") == native("checkpoints/link.safetensors")
    (models / "new").write_bytes(kolors)
    (models / "new").replace(models / "checkpoints" / "a.safetensors")
    assert files.list_files("diffusion_models") == native("checkpoints/a.safetensors", "checkpoints/link.safetensors")
