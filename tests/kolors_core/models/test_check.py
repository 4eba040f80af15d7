"""What `check` says of prepared ComfyUI folders, word by word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import small_models
from comfyui_kolors.demo.random_models import write as write_miniature
from comfyui_kolors.kolors_core.models import catalog, templates
from comfyui_kolors.kolors_core.models import check as module
from comfyui_kolors.kolors_core.models.check import check, format_size, main_memory, show_progress
from comfyui_kolors.kolors_core.models.contents import TOKENIZER_KEY as OUR_KEY
from comfyui_kolors.kolors_core.models.folders import PACKAGE
from comfyui_kolors.kolors_core.networks.tokenizer import TOKENIZER_KEY
from house import ROOT
from small_models import CONTENTS, INDEX, SHARDS, TOKENIZER, install, link, pointer, put, taesd_decoder

GET = "python -m kolors_core.models get"
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
UNET = "  UNet          whole  838 bytes  diffusion_models/Kolors-UNet-fp16.safetensors\n"
ENCODER = "  Text encoder  whole    8.43 KB  text_encoders/chatglm3-fp16.safetensors\n"
TOKENS = "  Tokenizer     whole    1.03 KB  text_encoders/tokenizer.model\n"
VAE = "  VAE           whole  327 bytes  vae/sdxl.vae.safetensors\n"
MEMORY = """
Which storage of the text encoder for which memory
  fp16  12.0 GB in memory  16 GB of video memory or more
  int8   6.2 GB in memory  between the two
  int4   3.4 GB in memory  8 to 12 GB of video memory
  This machine has 25.2 GB of main memory: fp16 fits beside the UNet (5.2 GB).
"""
READY = """
Templates
  text-to-image, 2 templates: ready
  faceid, 1 template: missing vision-encoder (4.22 KB), faceid-plus (6.24 KB),
      antelopev2 (923 bytes)
      python -m kolors_core.models get faceid
  ip-adapter + controlnet-canny, 1 template: missing ip-adapter-plus (8.40 KB),
      vision-encoder (4.22 KB), controlnet-canny (495 bytes)
      python -m kolors_core.models get ip-adapter controlnet-canny
  inpainting, 1 template: missing inpainting (838 bytes)
      python -m kolors_core.models get inpainting

Everything for text to image is there and whole.
"""
#: Of the templates below, by the files that each lists.
TEMPLATES = {
    "a": ("unet", "encoder", "vae"),
    "b": ("unet", "encoder", "vae"),
    "c_faces": ("unet", "encoder", "vae", "faceid-plus"),
    "d_all": ("unet", "encoder", "vae", "controlnet-canny", "ip-adapter-plus", "vision-encoder"),
    "e_inpainting": ("inpainting", "encoder", "vae"),
    "f_miniature": (),
}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A catalog of small files, templates that do not change, and a machine of 24 GB."""
    workflows = tmp_path / "workflows"
    for name, needed in TEMPLATES.items():
        files = [catalog.BY_NAME[each] for each in needed]
        listed = [{"name": file.file, "directory": file.folder, "url": f"https://hub/{file.repo}/x"} for file in files]
        nodes = [{"properties": {"models": [each]}} for each in listed]
        put(workflows / f"{name}.json", json.dumps({"definitions": {"subgraphs": [{"nodes": nodes}]}}).encode())
    monkeypatch.setattr(templates, "WORKFLOWS", workflows)
    monkeypatch.setattr(module, "main_memory", lambda: 25_200_000_000)
    small_models.use_small_catalog(monkeypatch)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "ComfyUI"


def report(root, quick=False):
    lines = []
    status = check(root, quick, lines.append)
    assert all(line == f"{line.rstrip()}\n" for line in lines)
    return status, "".join(lines)


def rows(root, quick=False):
    """The part of a report that lists the files, and the exit status."""
    status, text = report(root, quick)
    return status, text.split("\n\n")[1].partition("\n")[2] + "\n"


def last(root):
    """The last lines of a report."""
    return report(root)[1].rstrip("\n").split("\n\n")[-1].replace(f"{PACKAGE} with --root {root}", "HERE") + "\n"


def missing(name, size):
    """What the templates and the end of a report say where only `name` of text to image is missing."""
    inpainting = f"{name} ({size}), " if name != "unet" else ""
    command = f"{name} " if name != "unet" else ""
    label = {"unet": "UNet", "encoder": "Text encoder", "tokenizer": "Tokenizer", "vae": "VAE"}[name]
    return f"""
Templates
  text-to-image, 2 templates: missing {name} ({size})
      {GET} {name}
  faceid, 1 template: missing {name} ({size}), vision-encoder (4.22 KB),
      faceid-plus (6.24 KB), antelopev2 (923 bytes)
      {GET} {name} faceid
  ip-adapter + controlnet-canny, 1 template: missing {name} ({size}),
      ip-adapter-plus (8.40 KB), vision-encoder (4.22 KB),
      controlnet-canny (495 bytes)
      {GET} {name} ip-adapter controlnet-canny
  inpainting, 1 template: missing {inpainting}inpainting (838 bytes)
      {GET} {command}inpainting

Not ready for text to image. Missing: {label}.
  {GET} {name}
Run these commands in {PACKAGE} with --root """


# ---- twelve prepared folders ----------------------------------------------------------------------------------------


def test_complete(root):
    expected = f"ComfyUI: {root}\n\nModel files\n{UNET}{ENCODER}{TOKENS}{VAE}{MEMORY}{READY}"
    assert report(install(root)) == (0, expected)


@pytest.mark.parametrize(
    ("name", "row", "size"),
    [
        ("unet", f"  UNet          missing  838 bytes\n      Get it: {GET} unet\n", "838 bytes"),
        (
            "encoder",
            f"  Text encoder  missing    8.43 KB\n      Get it: {GET} encoder\n"
            "      Or a smaller one: encoder-8bit (13 KB), encoder-4bit (13 KB).\n",
            "8.43 KB",
        ),
        ("tokenizer", f"  Tokenizer     missing    1.03 KB\n      Get it: {GET} tokenizer\n", "1.03 KB"),
        ("vae", f"  VAE           missing  327 bytes\n      Get it: {GET} vae\n", "327 bytes"),
    ],
)
def test_missing(root, name, row, size):
    whole = {"unet": UNET, "encoder": ENCODER, "tokenizer": TOKENS, "vae": VAE}
    listed = "".join((whole | {name: row}).values()).replace(" whole  ", " whole    ")
    expected = f"ComfyUI: {root}\n\nModel files\n{listed}{MEMORY}{missing(name, size)}{root}\n"
    assert report(install(root, **{name: None})) == (1, expected)


@pytest.mark.parametrize(
    ("name", "row", "size"),
    [
        (
            "unet",
            "  UNet          damaged  798 bytes  diffusion_models/Kolors-UNet-fp16.safetensors\n"
            f"      It is cut short: 798 of 838 bytes.\n      Delete it and get it again: {GET} unet\n",
            "838 bytes",
        ),
        (
            "encoder",
            "  Text encoder  damaged    8.39 KB  text_encoders/chatglm3-fp16.safetensors\n"
            f"      It is cut short: 8,394 of 8,434 bytes.\n      Delete it and get it again: {GET} encoder\n",
            "8.43 KB",
        ),
        (
            "tokenizer",
            "  Tokenizer     damaged  986 bytes  text_encoders/tokenizer.model\n"
            f"      It is cut short: 986 of 1,026 bytes.\n      Delete it and get it again: {GET} tokenizer\n",
            "1.03 KB",
        ),
        (
            "vae",
            "  VAE           damaged  287 bytes  vae/sdxl.vae.safetensors\n"
            f"      It is cut short: 287 of 327 bytes.\n      Delete it and get it again: {GET} vae\n",
            "327 bytes",
        ),
    ],
)
@pytest.mark.parametrize("quick", [False, True])
def test_cut_short(root, name, row, size, quick):
    whole = {"unet": UNET, "encoder": ENCODER, "tokenizer": TOKENS, "vae": VAE}
    listed = "".join((whole | {name: row}).values()).replace(" whole  ", " whole    ")
    note = " (hashes not compared: --quick)" if quick else ""
    expected = f"ComfyUI: {root}\n\nModel files{note}\n{listed}{MEMORY}{missing(name, size)}{root}\n"
    assert report(install(root, **{name: CONTENTS[name][:-40]}), quick) == (1, expected)


def test_wrong_variant(root):
    """SDXL's UNet and a VAE of another model under the names of Kolors'."""
    install(root, unet=small_models.sdxl_unet(), vae=small_models.vae(16))
    expected = (
        "  UNet          wrong  401 bytes  diffusion_models/Kolors-UNet-fp16.safetensors\n"
        "      It is a checkpoint or UNet of SDXL, not a Kolors UNet.\n"
        f"      Rename it and get the right one: {GET} unet\n"
        f"{ENCODER}{TOKENS}"
        "  VAE           wrong  328 bytes  vae/sdxl.vae.safetensors\n"
        "      It is a VAE of 16 channels, not SDXL's VAE.\n"
        f"      Rename it and get the right one: {GET} vae\n"
    )
    assert rows(root) == (1, expected)
    assert (
        last(root)
        == f"Not ready for text to image. Missing: UNet, VAE.\n  {GET} unet vae\nRun these commands in HERE\n"
    )


def test_wrong_folder(root):
    install(root, unet=None, vae=None)
    put(root / "models" / "loras" / "Kolors-UNet-fp16.safetensors", CONTENTS["unet"])
    put(root / "models" / "checkpoints" / "best of all.safetensors", CONTENTS["vae"])
    expected = (
        "  UNet          misplaced  838 bytes  loras/Kolors-UNet-fp16.safetensors\n"
        "      It lies in loras; Load Kolors UNet looks in diffusion_models, unet,\n"
        "      checkpoints, diffusers, LLM. Move it to models/diffusion_models.\n"
        "  Text encoder  whole        8.43 KB  text_encoders/chatglm3-fp16.safetensors\n"
        "  Tokenizer     whole        1.03 KB  text_encoders/tokenizer.model\n"
        "  VAE           misplaced  327 bytes  checkpoints/best of all.safetensors\n"
        "      It lies in checkpoints; Load VAE looks in vae. Move it to\n"
        "      models/vae/kolors-vae.safetensors.\n"
    )
    assert rows(root) == (1, expected)
    assert "  text-to-image, 2 templates: missing unet (misplaced), vae (misplaced)\n  faceid" in report(root)[1]
    assert last(root) == (
        "Not ready for text to image. Missing: UNet, VAE.\n  Move or copy what is misplaced, as said above.\n"
    )


def wrapper(root, shards=tuple(SHARDS)):
    """The folder that KwaiKolorsWrapper downloads."""
    kolors = root / "models" / "diffusers" / "Kolors"
    put(kolors / "unet" / "diffusion_pytorch_model.fp16.safetensors", CONTENTS["unet"])
    put(kolors / "vae" / "diffusion_pytorch_model.fp16.safetensors", small_models.vae(fill=b"\5"))
    for name in shards:
        put(kolors / "text_encoder" / name, SHARDS[name])
    put(kolors / "text_encoder" / "pytorch_model.bin.index.json", INDEX)
    put(kolors / "tokenizer" / "tokenizer.model", TOKENIZER)
    return root


def test_the_folder_of_kwai_kolors_wrapper(root):
    expected = (
        "  UNet          whole      838 bytes  diffusers/Kolors/unet/diffusion_pytorch_model.fp16.safetensors\n"
        "  Text encoder  whole        8.70 KB  diffusers/Kolors/text_encoder/pytorch_model.bin.index.json\n"
        "  Tokenizer     whole        1.03 KB  diffusers/Kolors/tokenizer/tokenizer.model\n"
        "  VAE           misplaced  327 bytes  diffusers/Kolors/vae/diffusion_pytorch_model.fp16.safetensors\n"
        "      It lies in diffusers/Kolors/vae; Load Kolors Checkpoint takes it with the\n"
        "      rest of its folder, Load VAE looks in vae only. Copy it to\n"
        "      models/vae/kolors-vae.safetensors.\n"
        "      It is not the published file, but may be another version of it.\n"
    )
    assert rows(wrapper(root)) == (1, expected)
    put(root / "models" / "vae" / "kolors-vae.safetensors", small_models.vae(fill=b"\5"))
    assert rows(root)[0] == 0


# ---- other folders --------------------------------------------------------------------------------------------------


def test_an_empty_comfyui(root):
    (root / "models").mkdir(parents=True)
    status, text = report(root)
    assert status == 1
    assert text.partition("Templates\n")[2] == (
        "  text-to-image, 2 templates: missing unet (838 bytes), encoder (8.43 KB),\n"
        "      tokenizer (1.03 KB), vae (327 bytes)\n"
        f"      {GET} text-to-image\n"
        "  faceid, 1 template: missing all of text-to-image (11 KB),\n"
        "      vision-encoder (4.22 KB), faceid-plus (6.24 KB), antelopev2 (923 bytes)\n"
        f"      {GET} text-to-image faceid\n"
        "  ip-adapter + controlnet-canny, 1 template: missing\n"
        "      all of text-to-image (11 KB), ip-adapter-plus (8.40 KB),\n"
        "      vision-encoder (4.22 KB), controlnet-canny (495 bytes)\n"
        f"      {GET} text-to-image ip-adapter controlnet-canny\n"
        "  inpainting, 1 template: missing encoder (8.43 KB), tokenizer (1.03 KB),\n"
        "      vae (327 bytes), inpainting (838 bytes)\n"
        f"      {GET} encoder tokenizer vae inpainting\n"
        "\n"
        "Not ready for text to image. Missing: UNet, Text encoder, Tokenizer, VAE.\n"
        f"  {GET} text-to-image\n"
        f"Run these commands in {PACKAGE} with --root {root}\n"
    )


def test_what_is_no_comfyui(tmp_path):
    lines = []
    assert check(tmp_path / "no\x1bwhere", False, lines.append) == 2
    assert lines == [f"{tmp_path}/no?where is no folder. Give ComfyUI's folder, or its models folder.\n"]


def test_everything_is_ready_with_all_files(root):
    install(root, *catalog.BY_NAME)
    for quick in (False, True):
        status, text = report(root, quick)
        assert status == 0 and text.count("  whole  ") == len(catalog.FILES) and "missing" not in text
        assert text.count(": ready\n") == 4


@pytest.mark.parametrize("quick", [False, True])
def test_the_decoder_of_previews_is_known_by_its_name(root, quick):
    """Those of other models have the same tensors, and the same size."""
    install(root, "preview-decoder")
    place = root / "models" / "vae_approx"
    put(place / "taesd_decoder.safetensors", taesd_decoder(b"\2"))
    shown = [line for line in report(root, quick)[1].splitlines() if "vae_approx" in line]
    (row,) = shown
    assert row.split()[:3] == ["Preview", "decoder", "whole"] and row.endswith("vae_approx/taesdxl_decoder.safetensors")
    put(place / "taesdxl_decoder.safetensors", CONTENTS["vae"])
    assert "is a VAE, not TAESD's decoder for SDXL" in report(root, quick)[1]


def test_renamed_files_are_known_by_what_is_in_them(root):
    models = root / "models"
    put(models / "unet" / "a b" / '可图 "best".safetensors', CONTENTS["unet"])
    put(models / "LLM" / "it's mine.safetensors", CONTENTS["encoder-4bit"])
    put(models / "clip" / "x" / "tokenizer.model", TOKENIZER)
    put(models / "vae" / "any.safetensors", CONTENTS["vae"])
    put(models / "controlnet" / "1.safetensors", CONTENTS["controlnet-pose"])
    put(models / "controlnet" / "2-depth.safetensors", small_models.control_net(b"\7"))
    put(models / "controlnet" / "canny and more.safetensors", CONTENTS["controlnet-union"])
    put(models / "loras" / "speed.safetensors", CONTENTS["lcm-lora"])
    put(models / "loras" / "speed-8.safetensors", CONTENTS["hyper-lora"])
    put(models / "clip_vision" / "l.safetensors", CONTENTS["vision-encoder"])
    put(models / "ipadapter" / "p.safetensors", CONTENTS["ip-adapter-plus"])
    assert rows(root) == (
        0,
        '  UNet              whole  838 bytes  unet/a b/可图 "best".safetensors\n'
        "  Text encoder      whole      13 KB  LLM/it's mine.safetensors\n"
        "  Tokenizer         whole    1.03 KB  clip/x/tokenizer.model\n"
        "  VAE               whole  327 bytes  vae/any.safetensors\n"
        "  IP-Adapter        whole    8.40 KB  ipadapter/p.safetensors\n"
        "  Vision encoder    whole    4.22 KB  clip_vision/l.safetensors\n"
        "  ControlNet Depth  whole  495 bytes  controlnet/2-depth.safetensors\n"
        "      It is not the published file, but may be another version of it.\n"
        "  ControlNet Pose   whole  495 bytes  controlnet/1.safetensors\n"
        "  LCM LoRA          whole  162 bytes  loras/speed.safetensors\n"
        "  Hyper LoRA        whole  162 bytes  loras/speed-8.safetensors\n"
        "  ControlNet Union  whole  501 bytes  controlnet/canny and more.safetensors\n",
    )
    quick = rows(root, quick=True)[1]
    assert "  ControlNet        whole  495 bytes  controlnet/1.safetensors\n" in quick  # only its hash tells its kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)."),
        (PAGE, "is a web page: the download saved a login or error page instead of the\n      file."),
        (b"Access to model Kwai is restricted.", 'is a text: "Access to model Kwai is restricted.".'),
        (pointer("0" * 64), "is a Git LFS pointer: the download fetched the placeholder instead of\n      the file."),
        (CONTENTS["unet"] + b"!", "is too long: 839 bytes instead of 838."),
    ],
)
def test_what_a_download_left(root, content, words):
    status, text = rows(install(root, unet=content))
    assert status == 1
    head, _, rest = text.partition("\n")
    assert head.split() == ["UNet", "damaged", *format_size(len(content)).split(), *UNET.split()[4:]]
    assert rest.startswith(f"      It {words}\n      Delete it and get it again: {GET} unet\n")


def test_another_content_under_a_published_name_is_a_fault_and_under_another_a_note(root):
    other = small_models.unet(fill=b"\7")
    status, text = rows(install(root, unet=other))
    digest, expected = small_models.describe(catalog.FILES[0], other).sha256, catalog.BY_NAME["unet"].sha256
    words = f"It has another content than published (sha256 {digest[:12]}... instead of\n      {expected[:12]}...)."
    assert status == 1 and words in text
    path = root / "models" / "diffusion_models" / "Kolors-UNet-fp16.safetensors"
    path.rename(path.with_name("tuned.safetensors"))
    note = "      It is not the published file, but may be another version of it.\n"
    assert rows(root) == (
        0,
        f"  UNet          whole  838 bytes  diffusion_models/tuned.safetensors\n{note}{ENCODER}{TOKENS}{VAE}",
    )


def test_quick_leaves_the_hashes_out(root, monkeypatch):
    from comfyui_kolors.kolors_core.models import scan

    monkeypatch.setattr(scan, "hash_of", lambda *_: pytest.fail("hashed"))
    assert rows(install(root, unet=small_models.unet(fill=b"\7")), quick=True) == (0, f"{UNET}{ENCODER}{TOKENS}{VAE}")
    assert rows(wrapper(root), quick=True)[0] == 0


def test_a_checkout_without_lfs_is_known_by_the_hash_in_it(root):
    kolors = root / "models" / "diffusers" / "mine"
    put(kolors / "unet" / "diffusion_pytorch_model.fp16.safetensors", pointer(catalog.BY_NAME["unet"].sha256))
    status, text = rows(root)
    assert status == 1
    assert text.startswith(
        "  UNet          damaged  135 bytes  diffusers/mine/unet/diffusion_pytorch_model.fp16.safetensors\n"
        "      It is a Git LFS pointer: the download fetched the placeholder instead of\n      the file.\n"
        f"      Delete it and get it again: {GET} unet\n"
    )


def test_a_file_called_after_kolors_is_never_passed_over_in_silence(root):
    install(root)
    put(root / "models" / "unet" / "Kolors.safetensors", PAGE)
    put(root / "models" / "unet" / "kolors-xl.safetensors", small_models.sdxl_unet())
    put(root / "models" / "unet" / "xl.safetensors", small_models.sdxl_unet())
    put(root / "models" / "unet" / "page.safetensors", PAGE)
    put(root / "models" / "loras" / "kolors-style.safetensors", small_models.safetensors({"a.lora_A.weight": [4, 4]}))
    put(root / "models" / "unet" / "kolors.png", b"\x89PNG" + bytes(40))
    status, text = rows(root)
    assert status == 1
    assert text.partition("sdxl.vae.safetensors\n")[2] == (
        "  Other         damaged      50 bytes  unet/Kolors.safetensors\n"
        "      It is a web page: the download saved a login or error page instead of the\n      file.\n"
        "      Delete it.\n"
        "  Other         not Kolors  401 bytes  unet/kolors-xl.safetensors\n"
        "      It is a checkpoint or UNet of SDXL, which Kolors cannot use.\n"
    )


def test_a_unet_in_fp32_is_whole_and_twice_as_large(root):
    install(root, unet=None)
    put(root / "models" / "unet" / "full.safetensors", small_models.unet(dtype="F32", prefix="unet."))
    status, text = rows(root)
    assert status == 0
    assert "unet/full.safetensors\n      It is in fp32, which takes twice the memory of fp16.\n" in text


def test_the_miniature_is_no_kolors(root):
    write_miniature(root / "models")
    status, text = rows(root)
    assert status == 1 and "  whole  " not in text


def test_a_vae_that_may_be_another_models(root):
    install(root, vae=None)
    put(root / "models" / "vae" / "ft-mse.safetensors", small_models.vae(fill=b"\3"))
    status, text = rows(root)
    assert status == 1
    assert text.endswith(
        f"  VAE           missing  327 bytes\n      Get it: {GET} vae\n"
        "  VAE           unclear  327 bytes  vae/ft-mse.safetensors\n"
        "      It may be SDXL's or SD1.5's, which gives wrong colours: nothing inside\n"
        "      tells. If it is SDXL's, put sdxl into its name.\n"
    )
    path = root / "models" / "vae" / "ft-mse.safetensors"
    put(root / "models" / "checkpoints" / "an autoencoder.safetensors", small_models.vae(fill=b"\4"))
    assert "autoencoder" not in rows(root)[1]
    path.rename(path.with_name("SDXL-ft-mse.safetensors"))
    assert rows(root)[0] == 0
    install(root)
    path.write_bytes(small_models.vae(fill=b"\3"))
    assert "ft-mse.safetensors\n" in rows(root)[1] and "unclear" not in rows(root)[1]


def test_a_file_that_is_being_fetched(root):
    install(root, unet=None)
    put(root / "models" / "diffusion_models" / "Kolors-UNet-fp16.safetensors.part", CONTENTS["unet"][:200])
    status, text = rows(root)
    assert status == 1 and text.startswith(
        "  UNet          unfinished  200 bytes  diffusion_models/Kolors-UNet-fp16.safetensors.part\n"
        f"      Go on with it: {GET} unet\n"
    )
    put(root / "models" / "diffusion_models" / "Kolors-UNet-fp16.safetensors.part", CONTENTS["unet"])
    assert rows(root)[1].startswith("  UNet          unfinished  838 bytes")  # not under its name yet
    assert last(root).startswith(f"Not ready for text to image. Missing: UNet.\n  {GET} unet\n")


def test_an_ending_that_comfyui_does_not_list(root):
    install(root, unet=None, vae=None)
    put(root / "models" / "unet" / "Kolors-UNet-fp16.safetensors.download", CONTENTS["unet"])
    put(root / "models" / "vae" / "vae", CONTENTS["vae"])
    status, text = rows(root)
    assert status == 1
    assert (
        "      It has the ending .download, so that ComfyUI does not list it. Rename it\n"
        "      to Kolors-UNet-fp16.safetensors.\n"
    ) in text
    assert text.endswith(
        "      It has no ending, so that ComfyUI does not list it. Rename it to\n      sdxl.vae.safetensors.\n"
    )


def test_a_checkpoint_holds_several(root):
    parts = {"input_blocks.0.0.weight": [320, 4, 3, 3], "out.2.weight": [4, 320, 3, 3]}
    parts |= {"encoder_hid_proj.weight": [2048, 4096], "label_emb.0.0.weight": [1280, 5632]}
    tensors = {f"model.diffusion_model.{key}": shape for key, shape in parts.items()}
    tensors |= {"first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3], "x.spiece_model": ("U8", [9])}
    tensors["x.encoder.layers.0.self_attention.query_key_value.weight"] = [4608, 4096]
    put(root / "models" / "checkpoints" / "all.safetensors", small_models.safetensors(tensors))
    assert rows(root) == (
        0,
        "  UNet + Text encoder + VAE  whole   1.24 KB  checkpoints/all.safetensors\n"
        "  Tokenizer                  inside           checkpoints/all.safetensors\n"
        "      It has the tokenizer inside; no other is needed for it.\n",
    )

    (root / "models" / "checkpoints").rename(root / "models" / "unet")
    status, text = rows(root)
    assert status == 1
    assert "      It lies in unet; Load Kolors Checkpoint looks in checkpoints. Move it to\n" in text


def test_another_version_under_a_published_name_is_told_and_taken(root):
    install(root, unet=small_models.unet(dtype="BF16", prefix="unet."))
    status, text = rows(root)
    assert status == 0
    assert (
        "Kolors-UNet-fp16.safetensors\n      It is not the published file, but may be another version of it.\n" in text
    )


# ---- shards ---------------------------------------------------------------------------------------------------------


def test_a_missing_shard(root):
    status, text = rows(wrapper(root, tuple(SHARDS)[:5]))
    assert status == 1
    assert (
        "  Text encoder  damaged      6.21 KB  diffusers/Kolors/text_encoder/pytorch_model.bin.index.json\n"
        "      It lacks 2 of its 7 files: pytorch_model-00006-of-00007.bin,\n"
        "      pytorch_model-00007-of-00007.bin.\n"
        f"      Delete it and get it again: {GET} encoder\n"
    ) in text


def test_a_missing_index(root):
    wrapper(root)
    (root / "models" / "diffusers" / "Kolors" / "text_encoder" / "pytorch_model.bin.index.json").unlink()
    status, text = rows(root)
    assert status == 1
    assert (
        "  Text encoder  damaged      1.24 KB  diffusers/Kolors/text_encoder/pytorch_model-00001-of-00007.bin\n"
        "      It lacks pytorch_model.bin.index.json beside it, which is in text_encoder\n"
        "      of Kwai-Kolors/Kolors.\n"
    ) in text


def test_shards_are_compared_one_by_one(root):
    folder = wrapper(root) / "models" / "diffusers" / "Kolors" / "text_encoder"
    names = list(SHARDS)
    other = {name: content.replace(bytes(50), b"\1" * 50, 1) for name, content in SHARDS.items()}
    put(folder / names[2], SHARDS[names[2]][:-60])
    assert "Other" not in rows(root)[1]  # a shard is no file of its own
    assert (
        "      It has a damaged shard: pytorch_model-00003-of-00007.bin is cut short or\n"
        "      damaged: the list of its contents, which comes last, cannot be read.\n"
    ) in rows(root)[1]
    put(folder / names[2], other[names[2]])
    assert "      It has 1 of 7 shards with another content than published.\n" in rows(root)[1]
    for name in names:
        put(folder / name, other[name])
    _, text = rows(root)
    assert "damaged" not in text and "      It is not the published one, but may be another ChatGLM3.\n" in text


def test_shards_in_safetensors_are_one_encoder(root):
    install(root, encoder=None)
    folder = root / "models" / "text_encoders" / "mine"
    put(
        folder / "model.safetensors.index.json",
        INDEX.replace(b"pytorch_model-", b"m-").replace(b".bin", b".safetensors"),
    )
    for name in SHARDS:
        put(folder / name.replace("pytorch_model-", "m-").replace(".bin", ".safetensors"), CONTENTS["encoder"])
    status, text = rows(root)
    assert status == 0 and text.count("Text encoder") == 1
    assert "  Text encoder  whole      59 KB  text_encoders/mine/model.safetensors.index.json\n" in text


def test_another_models_file_of_a_published_name_is_of_no_concern(root):
    install(root)
    name = "unet/diffusion_pytorch_model.fp16.safetensors"
    put(root / "models" / "diffusers" / "xl" / name, small_models.sdxl_unet())
    assert rows(root) == (0, f"{UNET}{ENCODER}{TOKENS}{VAE}")
    put(root / "models" / "diffusers" / "Kolors" / name, small_models.sdxl_unet())
    assert "      It is a checkpoint or UNet of SDXL, not a Kolors UNet.\n" in rows(root)[1]


def test_the_index_of_another_model_is_of_no_concern(root):
    install(root)
    index = {"weight_map": {"model.layers.0.self_attn.q_proj.weight": "model-1-of-2.safetensors"}}
    put(root / "models" / "LLM" / "qwen" / "model.safetensors.index.json", json.dumps(index).encode())
    assert rows(root) == (0, f"{UNET}{ENCODER}{TOKENS}{VAE}")


# ---- the tokenizer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_an_encoder_may_bring_its_tokenizer(root, storage):
    install(root, encoder=None, tokenizer=None)
    put(root / "models" / "text_encoders" / "own.safetensors", small_models.encoder(storage, tokenizer=TOKENIZER))
    status, text = rows(root)
    assert status == 0
    assert (
        "  Tokenizer     inside             text_encoders/own.safetensors\n"
        "      It has the tokenizer inside; no other is needed for it.\n"
    ) in text


def test_a_gguf_file_brings_its_tokenizer(root):
    install(root, encoder=None, tokenizer=None)
    head = b"GGUF" + bytes(20) + b"general.architecture" + bytes(12)
    put(root / "models" / "text_encoders" / "q8.gguf", head + b"chatglm" + bytes(50))
    put(root / "models" / "text_encoders" / "llama.gguf", head + b"llama" + bytes(50))
    status, text = rows(root)
    assert status == 0 and "text_encoders/q8.gguf" in text and "llama" not in text


@pytest.mark.parametrize(
    ("encoder", "tokenizer"),
    [
        ("models/LLM/a/e.safetensors", "models/LLM/a/tokenizer.model"),
        ("models/LLM/a/text_encoder/e.safetensors", "models/LLM/a/tokenizer/tokenizer.model"),
        ("models/diffusers/K/text_encoder/e.safetensors", "models/diffusers/K/tokenizer/tokenizer.model"),
        ("models/LLM/e.safetensors", "models/clip/deep/down/tokenizer.model"),
        ("models/LLM/e.safetensors", "custom_nodes/Other-Pack/configs/tokenizer/tokenizer.model"),
    ],
)
def test_where_a_tokenizer_is_found(root, encoder, tokenizer):
    install(root, encoder=None, tokenizer=None)
    put(root / encoder, CONTENTS["encoder"])
    put(root / tokenizer, TOKENIZER)
    put(root / "models" / "text_encoders" / "gemma" / "tokenizer.model", b"\n\x0e" + b"another model's" * 9)
    status, text = rows(root)
    assert status == 0 and f"  Tokenizer     whole    1.03 KB  {tokenizer.removeprefix('models/')}\n" in text
    assert "gemma" not in text


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ("tokenizer.model", "lies in models, where no loader looks. Move it to models/text_encoders."),
        (
            "LLM/tokenizer/tokenizer.model",
            "lies in LLM/tokenizer, where no loader looks. Move it to\n      models/text_encoders.",
        ),
        ("LLM/b/tokenizer.model", "lies in LLM/b, where no loader looks. Move it to models/text_encoders."),
        (
            "vae/tokenizer/tokenizer.model",
            "lies in vae/tokenizer, where no loader looks. Move it to\n      models/text_encoders.",
        ),
        ("text_encoders/spiece.model", "is called spiece.model. Rename it to tokenizer.model."),
    ],
)
def test_where_a_tokenizer_is_not_found(root, tokenizer, words):
    install(root, encoder=None, tokenizer=None)
    put(root / "models" / "LLM" / "a" / "e.safetensors", CONTENTS["encoder"])
    put(root / "models" / tokenizer, TOKENIZER)
    status, text = rows(root)
    assert status == 1
    assert f"  Tokenizer     misplaced    1.03 KB  {tokenizer}\n      It {words}\n" in text


def test_a_tokenizer_of_another_model_is_no_tokenizer(root):
    install(root, tokenizer=TOKENIZER + b"more")
    put(root / "models" / "LLM" / "llama" / "tokenizer.model", b"\n\x0e" + b"another model's" * 9)
    status, text = rows(root)
    assert status == 1
    assert "      It is too long: 1,030 bytes instead of 1,026.\n" in text and "llama" not in text


def test_an_encoder_without_a_tokenizer_beside_one_that_has_it(root):
    install(root, tokenizer=None, encoder=None)
    put(root / "models" / "LLM" / "a" / "e.safetensors", CONTENTS["encoder-8bit"])
    put(root / "models" / "LLM" / "a" / "tokenizer.model", TOKENIZER)
    put(root / "models" / "LLM" / "b" / "e.safetensors", CONTENTS["encoder"])
    status, text = rows(root)
    assert status == 0
    assert "  LLM/b/e.safetensors\n      It has no tokenizer. Put tokenizer.model beside it.\n" in text


def test_the_name_of_a_stored_tokenizer_is_that_of_the_loader():
    assert OUR_KEY == TOKENIZER_KEY


# ---- places ---------------------------------------------------------------------------------------------------------


def test_face_models_one_folder_too_deep(root):
    install(root)
    place = root / "models" / "insightface" / "models"
    for file in catalog.FILES:
        if file.folder.startswith("insightface"):
            put(place / "antelopev2" / "antelopev2" / file.file, CONTENTS[file.name])
    put(place / "buffalo_l" / "1k3d68.onnx", CONTENTS["antelopev2-1k3d68"])  # insightface's models share some files
    put(place / "buffalo_l" / "2d106det.onnx", b"\x08" + bytes(40))
    status, text = rows(root)
    assert status == 0 and "buffalo" not in text
    assert text.count("misplaced") == 5
    assert (
        "  Face model    misplaced  154 bytes  insightface/models/antelopev2/antelopev2/1k3d68.onnx\n"
        "      It lies in insightface/models/antelopev2/antelopev2. Move it to\n"
        "      models/insightface/models/antelopev2.\n"
    ) in text


def test_extra_model_paths(root, tmp_path):
    pytest.importorskip("yaml")
    (root / "models").mkdir(parents=True)
    other = tmp_path / "other"
    put(
        root / "extra_model_paths.yaml", f"o:\n  base_path: {other}\n  unet: u\n  vae: v\n  text_encoders: t\n".encode()
    )
    put(other / "u" / "k.safetensors", CONTENTS["unet"])
    put(other / "t" / "k.safetensors", CONTENTS["encoder"])
    put(other / "t" / "tokenizer.model", TOKENIZER)
    put(other / "v" / "k.safetensors", CONTENTS["vae"])
    assert rows(root) == (
        0,
        f"  UNet          whole  838 bytes  {other}/u/k.safetensors\n"
        f"  Text encoder  whole    8.43 KB  {other}/t/k.safetensors\n"
        f"  Tokenizer     whole    1.03 KB  {other}/t/tokenizer.model\n"
        f"  VAE           whole  327 bytes  {other}/v/k.safetensors\n",
    )


def test_extra_model_paths_that_were_not_read_are_told(root, monkeypatch):
    put(install(root) / "extra_model_paths.yaml", b"a:\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert report(root)[1].startswith(
        f"ComfyUI: {root}\n"
        "extra_model_paths.yaml was not read: this Python has no PyYAML. Use the Python\n"
        "that runs ComfyUI.\n\nModel files\n"
    )


def test_a_models_folder_of_another_name(root, tmp_path):
    install(root)
    (root / "models").rename(tmp_path / "my models")
    status, text = report(tmp_path / "my models")
    assert status == 0 and UNET in text
    (tmp_path / "my models" / "vae" / "sdxl.vae.safetensors").unlink()
    assert report(tmp_path / "my models")[1].endswith(f' with --root "{tmp_path / "my models"}"\n')


def test_links_and_circles(root):
    models = install(root, unet=None) / "models"
    put(models / "loras" / "k.safetensors", CONTENTS["unet"])
    (models / "diffusion_models").mkdir()
    link(models / "diffusion_models" / "all", models / "loras")
    link(models / "loras" / "up", models)
    link(models / "vae" / "kolors.safetensors", models / "gone")
    link(models / "vae" / "a.bin.index.json", models / "gone as well")
    status, text = rows(root)
    assert status == 1
    assert text == (
        "  UNet          whole    838 bytes  loras/k.safetensors\n"
        "  Text encoder  whole      8.43 KB  text_encoders/chatglm3-fp16.safetensors\n"
        "  Tokenizer     whole      1.03 KB  text_encoders/tokenizer.model\n"
        "  VAE           whole    327 bytes  vae/sdxl.vae.safetensors\n"
        "  Other         damaged    0 bytes  vae/kolors.safetensors\n"
        "      It is a link to a file that is not there.\n      Delete it.\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_names_that_a_terminal_would_obey(root):
    install(root, unet=None)
    put(root / "models" / "unet" / "a\x1b[2J\nb\udc80.safetensors", CONTENTS["unet"])
    assert "  unet/a?[2J?b?.safetensors\n" in rows(root)[1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(root):
    (install(root) / "models" / catalog.BY_NAME["vae"].place).chmod(0)
    status, text = rows(root)
    assert status == 1 and "      It cannot be read: Permission denied.\n" in text


def test_the_disk_fails_while_a_file_is_hashed(root, monkeypatch):
    from comfyui_kolors.kolors_core.models import scan

    def fail(path, advance=None):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(scan, "hash_of", fail)
    status, text = rows(wrapper(install(root)))
    assert status == 1
    words = f"      It cannot be read: Input/output error.\n      Let it be read, or get it again: {GET} encoder\n"
    assert text.count("      It cannot be read: Input/output error.\n") == 6 and text.count(words) == 2


# ---- memory, progress, templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (8.2e9, "8.2 GB of main memory: none of them fits beside the UNet (5.2 GB)."),
        (12.4e9, "12.4 GB of main memory: int4 fits beside the UNet (5.2 GB)."),
        (16.6e9, "16.6 GB of main memory: int8 fits beside the UNet (5.2 GB)."),
        (33.3e9, "33.3 GB of main memory: fp16 fits beside the UNet (5.2 GB)."),
    ],
)
def test_the_largest_storage_that_fits_is_named(root, monkeypatch, total, words):
    monkeypatch.setattr(module, "main_memory", lambda: total)
    assert f"  This machine has {words}\n" in report(install(root))[1]


def test_a_machine_that_does_not_tell_its_memory(root, monkeypatch):
    monkeypatch.setattr(module, "main_memory", lambda: None)
    assert "This machine" not in report(install(root))[1]


def test_main_memory_is_asked_of_the_system_or_of_psutil(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "psutil", types.SimpleNamespace(virtual_memory=lambda: types.SimpleNamespace(total=5))
    )
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert main_memory() == 5
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert main_memory() is None


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="this system does not tell")
def test_main_memory_of_this_machine():
    assert 1e8 < main_memory() < 1e14


def test_progress_is_one_line_of_a_terminal(monkeypatch, capsys):
    show_progress("a.safetensors", 100, 50)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    show_progress("a.safetensors", 100, 50)
    show_progress("b" * 99, 100, 99)
    show_progress("b" * 99, 100, 100)
    show_progress("empty", 0, 0)
    shown = capsys.readouterr().err.split("\r")[1:]
    assert [text.rstrip() for text in shown] == [
        "Reading a.safetensors: 50%",
        f"Reading {'b' * 50}: 99%",
        "",
        "",
        "",
        "",
    ]
    assert {len(text) for text in shown} == {79, 0}


def test_files_are_shown_while_they_are_hashed(root, monkeypatch):
    told = []
    monkeypatch.setattr(module, "show_progress", lambda *each: told.append(each))
    report(install(root))
    sizes = {file.place: file.size for file in catalog.FILES}
    assert sorted(told) == [(name, sizes[name], sizes[name]) for name, _, _ in sorted(told)] and len(told) == 3


def test_sizes_are_read_easily():
    sizes = (0, 999, 1000, 9_990, 12_345, 1_018_370, 334_641_162, 999_999_999, 12_520_000_000)
    expected = ["0 bytes", "999 bytes", "1.00 KB", "9.99 KB", "12 KB", "1.02 MB", "335 MB", "1000 MB", "12.52 GB"]
    assert [format_size(size) for size in sizes] == expected


def test_all_templates_of_the_package_name_files_of_the_catalog(monkeypatch):
    """Every model that a template lists has a name in the catalog, so that the command can get it."""
    monkeypatch.setattr(templates, "WORKFLOWS", ROOT / "workflows")
    listed = 0
    for path in sorted((ROOT / "workflows").glob("*.json")):
        for model in templates._models(json.loads(path.read_text(encoding="utf-8"))):
            assert templates.name_of(model), (path.name, model)
            listed += 1
    assert listed > 40
    groups = {templates.title(needed): names for needed, names in templates.groups().items()}
    assert next(iter(groups)) == "text-to-image" and "Kolors-text-to-image" in groups["text-to-image"]
    assert set(groups) >= {"ip-adapter", "faceid", "inpainting", "few-steps", "controlnet-canny"}
    assert groups["text-to-image without encoder"] == ["Kolors-without-the-text-encoder"]
    assert "Kolors-demo-with-the-miniature" not in [name for names in groups.values() for name in names]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({"directory": "diffusion_models", "url": "https://h/Kwai-Kolors/Kolors-diffusers/resolve/x"}, "unet"),
        ({"directory": "diffusion_models", "url": "https://h/Kwai-Kolors/Kolors-Inpainting/resolve/x"}, "inpainting"),
        ({"directory": "diffusion_models", "name": "Kolors-Inpainting.safetensors"}, "inpainting"),
        ({"directory": "text_encoders", "name": "chatglm3-8bit.safetensors"}, "encoder"),
        ({"directory": "clip_vision", "name": "any.bin"}, "vision-encoder"),
        ({"directory": "ipadapter", "url": "https://h/Kwai-Kolors/Kolors-IP-Adapter-FaceID-Plus/x"}, "faceid-plus"),
        ({"directory": "upscale_models", "name": "4x.pth"}, None),
    ],
)
def test_a_model_of_a_template_is_found_in_the_catalog(model, name):
    assert templates.name_of(model) == name


def test_names_are_shortened_to_features():
    every = list(catalog.FEATURES["text-to-image"])
    assert templates.shorten([*every, "vision-encoder", "ip-adapter-plus", "lcm-lora"]) == [
        "text-to-image",
        "ip-adapter",
        "lcm-lora",
    ]
    assert templates.shorten(every[1:]) == every[1:]
    both = {*catalog.FEATURES["ip-adapter"], *catalog.FEATURES["faceid"]}  # which share the vision encoder
    assert templates.shorten(file.name for file in catalog.FILES if file.name in both) == ["ip-adapter", "faceid"]


def test_the_catalog_itself_has_no_two_files_that_are_taken_for_each_other(monkeypatch):
    """Files of one size are told by their hash; a rounded size is not near that of another file in the same folder."""
    monkeypatch.undo()
    for file in catalog.FILES:
        same = [
            each for each in catalog.FILES if each.folder == file.folder and each is not file and each.sha256 is None
        ]
        assert all(abs(each.size - file.size) > file.size / 100 for each in same), file.name


def test_the_check_needs_neither_torch_nor_comfyui():
    code = (
        "import sys, kolors_core.models.check; from pathlib import Path;"
        "kolors_core.models.check.check(Path('.'), True, lambda line: None);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'folder_paths', 'sentencepiece')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_file_of_the_catalog_may_have_no_hash(root, monkeypatch):
    """Then it is judged by its structure, and in a torch file by its size and its folder."""
    install(root)
    put(root / "models" / "ipadapter" / "mine.bin", CONTENTS["faceid-plus"])
    assert "  FaceID        whole    6.24 KB  ipadapter/mine.bin\n" in rows(root)[1]
    put(root / "models" / "ipadapter" / "mine.bin", small_models.torch_file(9000))
    assert "FaceID" not in rows(root)[1]
    faceid = replace(catalog.BY_NAME["faceid-plus"], size=9000)
    monkeypatch.setattr(catalog, "FILES", tuple(faceid if f.name == "faceid-plus" else f for f in catalog.FILES))
    put(root / "models" / "ipadapter" / "ipa-faceid-plus.bin", small_models.torch_file(9000)[:-30])
    assert f"Delete it and get it again: {GET} faceid-plus\n" in rows(root)[1]
