"""Finding files and the tokenizer in the host's folders."""

import os

import pytest
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from safetensors.torch import save

pytestmark = pytest.mark.host

MODEL = random_tokenizer()
ROWS = 512


@pytest.fixture
def paths():
    from comfyui_kolors.kolors_core.host import model_files as paths

    return paths


@pytest.fixture
def folders(tmp_path):
    """The host's own folders, emptied of what a test puts there."""
    import shutil

    import folder_paths

    before = {root: set(os.listdir(root)) if os.path.isdir(root) else set() for root in _roots(folder_paths)}
    yield folder_paths
    folder_paths.filename_list_cache.clear()
    for root, names in before.items():
        for name in set(os.listdir(root)) - names if os.path.isdir(root) else ():
            path = os.path.join(root, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _roots(folder_paths):
    models = [os.path.join(folder_paths.models_dir, name) for name in ("LLM", "ipadapter")]
    return [*models, *folder_paths.get_folder_paths("text_encoders"), *folder_paths.get_folder_paths("custom_nodes")]


def put(path, content=b"x" * 20):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def test_ip_adapters_have_a_folder_of_which_only_weights_are_listed(paths, folders):
    """Whether the pack or another one told the host of the folder first."""
    paths.register()
    paths.register()
    (folder,) = folders.get_folder_paths("ipadapter")
    for name in ("a.safetensors", "b.bin", "readme.md", "sample.png"):
        put(os.path.join(folder, name))
    miniature = "kolors-demo/ip_adapter/kolors-demo-ip-adapter.safetensors"  # of the package itself
    assert paths.list_files("ipadapter") == ["a.safetensors", "b.bin", os.path.normpath(miniature)]
    assert paths.resolve("ipadapter", "b.bin") == os.path.join(folder, "b.bin")
    with pytest.raises(FileNotFoundError, match=r"c\.bin was not found(.|\n)*ipadapter(.|\n)*ip_adapter_plus_general"):
        paths.resolve("ipadapter", "c.bin")


def test_text_encoders_are_listed_from_the_llm_folder_too(paths, folders):
    text_encoders, llm = folders.get_folder_paths("text_encoders")[0], os.path.join(folders.models_dir, "LLM")
    put(os.path.join(text_encoders, "a.safetensors"))
    put(os.path.join(llm, "checkpoints", "b.safetensors"), save(random_chatglm3(TINY, 480)))
    put(os.path.join(llm, "another model.safetensors"))
    put(os.path.join(llm, "readme.txt"))
    listed = paths.list_files("text_encoders")
    assert "a.safetensors" in listed
    assert os.path.join("checkpoints", "b.safetensors") in listed
    assert "another model.safetensors" not in listed and "readme.txt" not in listed
    found = paths.resolve("text_encoders", os.path.join("checkpoints", "b.safetensors"))
    assert found == os.path.join(llm, "checkpoints", "b.safetensors")


def test_the_llm_folder_is_not_a_way_out(paths, folders):
    put(os.path.join(folders.models_dir, "LLM", "b.safetensors"))
    put(os.path.join(folders.models_dir, "secret.safetensors"))
    with pytest.raises(FileNotFoundError):
        paths.resolve("text_encoders", os.path.join("..", "secret.safetensors"))


@pytest.mark.parametrize(
    ("kind", "source"), [("diffusion_models", "unet/.* of Kwai-Kolors/Kolors "), ("text_encoders", "ChatGLM3")]
)
def test_a_missing_file_names_its_folders_and_where_to_get_it(paths, kind, source):
    with pytest.raises(FileNotFoundError, match=f"(?s)gone.safetensors was not found.*models.*{source}.*huggingface"):
        paths.resolve(kind, "gone.safetensors")


def test_the_fingerprint_follows_the_file(paths, folders):
    path = put(os.path.join(folders.get_folder_paths("text_encoders")[0], "a.safetensors"))
    first = paths.fingerprint("text_encoders", "a.safetensors")
    assert paths.fingerprint("text_encoders", "a.safetensors") == first
    put(path, b"y" * 21)
    assert paths.fingerprint("text_encoders", "a.safetensors") != first
    os.remove(path)
    assert "missing" in paths.fingerprint("text_encoders", "a.safetensors")


def test_the_tokenizer_is_found_in_order(paths, folders, tmp_path):
    """From the last place to the first: each found one is preferred to those before."""
    import torch
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer_file import find_tokenizer

    encoder = str(tmp_path / "encoder.safetensors")
    with pytest.raises(KolorsError, match=r"No tokenizer for .*encoder\.safetensors.*tokenizer\.model.*Kwai-Kolors"):
        find_tokenizer(encoder, ROWS)
    pack = folders.get_folder_paths("custom_nodes")[0]
    places = [
        os.path.join(pack, "some-pack", "configs", "tokenizer", "tokenizer.model"),
        os.path.join(folders.get_folder_paths("text_encoders")[0], "sub", "folder", "tokenizer.model"),
        os.path.join(tmp_path, "tokenizer.model"),
    ]
    for place in places:
        put(place, MODEL)
        assert find_tokenizer(encoder, ROWS).source == place
    stored = torch.frombuffer(bytearray(MODEL), dtype=torch.uint8)
    assert find_tokenizer(encoder, ROWS, stored).source == f"spiece_model in {encoder}"


def test_a_tokenizer_of_another_model_is_passed_over(paths, folders, tmp_path):
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer_file import find_tokenizer

    encoder = str(tmp_path / "encoder.safetensors")
    put(str(tmp_path / "tokenizer.model"), MODEL)
    size = ChatGLM3Tokenizer(MODEL).vocab_size
    with pytest.raises(KolorsError, match=f"of no use: .*{size} tokens, the encoder has 65,024"):
        find_tokenizer(encoder, 65024)
    put(os.path.join(folders.get_folder_paths("text_encoders")[0], "tokenizer.model"), b"garbage")
    with pytest.raises(KolorsError, match=r"tokenizer\.model \(damaged\)"):
        find_tokenizer(encoder, 65024)


def test_for_an_encoder_in_a_checkpoint_the_working_directory_is_not_searched(folders, tmp_path, monkeypatch):
    from comfyui_kolors.kolors_core.host.text_encoder.tokenizer_file import find_tokenizer

    put(str(tmp_path / "tokenizer.model"), MODEL)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KolorsError, match=r"^No tokenizer for the text encoder in the checkpoint\. Put .* anywhere in"):
        find_tokenizer(None, ROWS)
