"""The text encoder's tokenizer, fetched where it is missing and the user wants that, and never otherwise."""

from __future__ import annotations

import pytest
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.models import addresses, download
from comfyui_kolors.kolors_core.networks.tokenizer import VOCABULARY, ChatGLM3Tokenizer
from hub import Hub
from safetensors.torch import save_file

pytestmark = pytest.mark.host

REPO, PATH = "Kwai-Kolors/Kolors", "text_encoder/tokenizer.model"
FETCH = "fetch if missing (1 MB)"
MISSING = r"No tokenizer for .*encoder\.safetensors\. Put tokenizer\.model \(1,018,370 bytes\) beside it"


@pytest.fixture
def hub(monkeypatch, tokenizer_file):
    """All three mirrors; the last does not have it."""
    with Hub() as hub:
        hub.put(REPO, PATH, tokenizer_file)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for mirror in ("hf-mirror", "modelscope"):
            monkeypatch.setitem(addresses.MIRRORS, mirror, hub.url)
        for variable in download.OFFLINE:
            monkeypatch.delenv(variable, raising=False)
        yield hub


@pytest.fixture
def folder(tmp_path):
    """An encoder with the released vocabulary, alone in its folder."""
    save_file(random_chatglm3(TINY, VOCABULARY - 9), tmp_path / "encoder.safetensors")
    return tmp_path


@pytest.fixture
def load(folder, mappings, monkeypatch):
    """The node, on the encoder of the folder; no other tokenizer is anywhere."""
    import folder_paths
    from comfyui_kolors.kolors_core.host import model_files

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {
        **folder_paths.folder_names_and_paths,
        "text_encoders": ([str(folder)], folder_paths.supported_pt_extensions),
        "custom_nodes": ([], set()),
    })  # fmt: skip
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    assert model_files.list_files("text_encoders")
    node = mappings.classes["KolorsChatGLM3Loader"]()
    return lambda **options: node.load("encoder.safetensors", "default", **options)[0]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_lands_beside_the_encoder_and_is_used(hub, folder, load, tokenizer_file):
    clip = load(tokenizer=FETCH)
    assert names(folder) == ["encoder.safetensors", "tokenizer.model"]
    assert (folder / "tokenizer.model").read_bytes() == tokenizer_file.read_bytes()
    assert [asked.path for asked in hub.asked] == [PATH, PATH]
    expected = ChatGLM3Tokenizer.from_file(tokenizer_file).encode("一只红苹果").ids
    assert [token for token, _ in clip.tokenize("一只红苹果")["chatglm3"][0]][-len(expected) :] == expected
    load(tokenizer=FETCH)
    assert len(hub.asked) == 2, "what is there is not fetched again"


@pytest.mark.parametrize("options", [{}, {"tokenizer": "find"}])
def test_without_the_choice_nothing_is_asked(hub, folder, load, options):
    with pytest.raises(KolorsError, match=MISSING) as error:
        load(**options)
    assert "fetched" not in str(error.value)
    assert not hub.asked
    assert names(folder) == ["encoder.safetensors"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 404}, "it answers 404 Not Found; "),
        ({"status": 403, "at": "hub"}, "it answers 403 Forbidden; "),
        ({"status": 500}, "it answers 500 Internal Server Error; "),
        ({"flip": 1000}, "the file that it sent "),
        ({"length": 1000}, "it has 1,000 bytes; expected 1,018,370; "),
        ({"drop_after": 1000}, "the connection ended at 1,000 of 1,018,370 bytes; "),
        ({"wait": 3}, "the connection failed (timed out); "),
        ({"location": "http://example.org/tokenizer.model", "at": "hub"}, "passes the request on to example.org"),
    ],
)
def test_what_was_tried_follows_the_error_and_nothing_is_left(hub, folder, load, monkeypatch, fault, said):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    hub.fail(PATH, **fault)
    with pytest.raises(KolorsError, match=MISSING) as error:
        load(tokenizer=FETCH)
    text = str(error.value)
    assert " It could not be fetched. 127.0.0.1:" in text
    assert text.count(said) == 2, text  # the hub and its mirror
    assert text.count("; 127.0.0.1:") == 2  # three were asked
    assert names(folder) == ["encoder.safetensors"]


def test_the_next_mirror_is_asked_where_one_fails(hub, folder, load):
    hub.fail(PATH, at="hub", status=503, times=1)
    load(tokenizer=FETCH)
    assert names(folder) == ["encoder.safetensors", "tokenizer.model"]
    assert [asked.at for asked in hub.asked] == ["hub", "hub", "store"]


def test_nobody_is_asked_where_the_hub_is_switched_off(hub, folder, load, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(KolorsError, match=MISSING + r"(.|\n)*It was not fetched, because HF_HUB_OFFLINE is set\."):
        load(tokenizer=FETCH)
    assert not hub.asked


def test_a_file_of_that_name_is_left_alone(hub, folder, load):
    other = random_tokenizer()
    (folder / "tokenizer.model").write_bytes(other)
    with pytest.raises(KolorsError, match=r"It was not fetched, because .*tokenizer\.model is there\. Move that file"):
        load(tokenizer=FETCH)
    assert (folder / "tokenizer.model").read_bytes() == other
    assert not hub.asked


def test_an_encoder_of_another_vocabulary_is_not_given_it(hub, folder, load):
    save_file(random_chatglm3(TINY, 480), folder / "encoder.safetensors")
    with pytest.raises(KolorsError, match=r"It was not fetched: the published one has 64,798 tokens, for another enc"):
        load(tokenizer=FETCH)
    assert not hub.asked


def test_a_folder_that_cannot_be_written_to_is_named(hub, folder, load, monkeypatch):
    def refuse(self, mode="r", *options, **more):
        if self.name == "tokenizer.model.part":
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *options, **more)

    real = type(folder).open
    monkeypatch.setattr(type(folder), "open", refuse)
    with pytest.raises(KolorsError, match=rf"{folder} cannot be written to \(Permission denied\)\. Allow writing"):
        load(tokenizer=FETCH)
    assert names(folder) == ["encoder.safetensors"]
