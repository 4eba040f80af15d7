"""The catalog of model files, and where they can be had."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from comfyui_kolors.kolors_core.models.addresses import MIRRORS, STORES, addresses, may_follow
from comfyui_kolors.kolors_core.models.catalog import BY_NAME, FEATURES, FILES, SHARDS, TOKENIZER, files_of
from house import ROOT


def test_names_and_places_are_unique_and_hashes_are_hashes():
    for values in ([file.name for file in FILES], [file.place for file in FILES]):
        assert len(values) == len(set(values))
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in (*FILES, *SHARDS) if file.sha256)
    assert all(file.sha256 or not file.exact for file in FILES), "a size to the byte comes with its hash"


def test_a_name_says_what_a_file_is():
    """Published names such as diffusion_pytorch_model.safetensors and pytorch_model.bin say nothing."""
    assert not [file.file for file in FILES if re.search(r"^(diffusion_)?pytorch|^model\.", file.file)]


def test_features_are_made_of_files_that_there_are():
    assert {name for names in FEATURES.values() for name in names} <= set(BY_NAME)
    same = set(FEATURES) & set(BY_NAME)
    assert all(FEATURES[name] == (name,) for name in same), "a name is that of a feature or of a file"
    assert [file.name for file in files_of(["text-to-image", "vae", "lcm-lora"])] == [
        "unet",
        "encoder",
        "tokenizer",
        "vae",
        "lcm-lora",
    ]
    with pytest.raises(KeyError, match="nothing"):
        files_of(["nothing"])


def test_the_tokenizer_is_the_file_that_the_tests_use(tokenizer_file):
    import hashlib

    content = tokenizer_file.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (TOKENIZER.size, TOKENIZER.sha256)


def test_every_file_has_an_address_on_the_hub_and_its_mirror(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    for file in (*FILES, *SHARDS):
        found = addresses(file)
        assert {"huggingface", "hf-mirror"} <= set(found)
        assert all(url.startswith(MIRRORS[mirror] + "/") for mirror, url in found.items())
    adapter = addresses(BY_NAME["ip-adapter-plus"])
    assert adapter["hf-mirror"].endswith(
        "/Kwai-Kolors/Kolors-IP-Adapter-Plus/resolve/refs%2Fpr%2F4/ip_adapter_plus_general.safetensors"
    )
    assert "modelscope" not in adapter  # that revision is on the hub alone
    assert (
        addresses(TOKENIZER)["modelscope"]
        == "https://modelscope.cn/models/Kwai-Kolors/Kolors/resolve/master/text_encoder/tokenizer.model"
    )


@pytest.mark.parametrize("given", ["https://hub.example.org/", "hub.example.org", " https://hub.example.org"])
def test_the_variable_of_the_hub_takes_the_place_of_its_address_alone(monkeypatch, given):
    monkeypatch.setenv("HF_ENDPOINT", given)
    found = addresses(TOKENIZER)
    assert found["huggingface"].startswith("https://hub.example.org/Kwai-Kolors/")
    assert found["hf-mirror"].startswith("https://hf-mirror.com/")


@pytest.mark.parametrize(
    ("url", "start", "allowed"),
    [
        ("https://cas-bridge.xethub.hf.co/x", "https://huggingface.co/x", True),
        ("https://cdn-lfs.huggingface.co/x", "https://hf-mirror.com/x", True),
        ("https://huggingface.co/y", "https://huggingface.co/x", True),
        ("https://HF.CO/y", "https://huggingface.co/x", True),
        ("http://huggingface.co/y", "https://huggingface.co/x", False),
        ("https://example.org/x", "https://huggingface.co/x", False),
        ("https://evilhf.co/x", "https://huggingface.co/x", False),
        ("https://hf.co.example.org/x", "https://huggingface.co/x", False),
        ("https://huggingface.co@example.org/x", "https://huggingface.co/x", False),
        ("file:///etc/passwd", "https://huggingface.co/x", False),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:8/x", True),
        ("http://127.0.0.2:9/x", "http://127.0.0.1:8/x", False),
        ("ftp://huggingface.co/x", "https://huggingface.co/x", False),
    ],
)
def test_a_request_is_passed_on_to_known_hosts_only(url, start, allowed):
    assert may_follow(url, start) is allowed
    assert not [store for store in STORES if urlsplit(f"https://{store}").hostname != store]


@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
def test_the_readme_lists_the_files_with_their_folders_and_sizes(readme):
    rows = [row for row in (ROOT / readme).read_text(encoding="utf-8").splitlines() if row.startswith("|")]
    for file in FILES:
        if file.folder.startswith("insightface") or file.name in ("controlnet-depth", "controlnet-pose"):
            continue  # together in one row
        (row,) = (row for row in rows if f"`{file.file}`" in row)
        digits = f"{file.size:,}" if file is TOKENIZER else f"{file.size / 1e9:.2f} GB"
        assert digits in row or f"{file.size / 1e6:.0f} MB" in row, row
        assert f"`models/{file.folder}`" in row
        assert f"huggingface.co/{file.repo}/tree/{file.revision.replace('/', '%2F')}" in row
    faces = sum(file.size for file in FILES if file.folder.startswith("insightface"))
    assert any("antelopev2" in row and f"{faces / 1e6:.0f} MB" in row for row in rows)


def test_the_catalog_needs_neither_torch_nor_comfyui():
    code = (
        "import sys, kolors_core.models.addresses; sys.exit(any(m in sys.modules for m in ('torch', 'folder_paths')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
