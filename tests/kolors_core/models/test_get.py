"""Fetching model files, against a hub on this machine with small files of the published names."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_catalog
from comfyui_kolors.kolors_core.models import catalog, download, get
from small_catalog import ROOT, content_of, lying_in, run, start

SIZE = 200_000
VAE = "sdxl.vae.safetensors"


def test_a_feature_lands_in_its_folders_under_names_that_say_what_they_are(files, root, hub, capsys):
    status, said = run(capsys, "get", "text-to-image", "ip-adapter", "--root", root)
    assert status == 0, said
    wanted = [files[name] for name in ("unet", "encoder", "tokenizer", "vae", "ip-adapter-plus", "vision-encoder")]
    assert lying_in(root) == {file.place: content_of(file) for file in wanted}
    assert "6 brought, 0 there already.\n" in said
    asked = len(hub.asked)
    status, said = run(capsys, "get", "text-to-image", "--root", root / "models")
    assert status == 0 and "0 brought, 4 there already.\n" in said
    assert len(hub.asked) == asked, "what is there is not asked for"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 404}, "it answers 404 Not Found."),
        ({"status": 403}, "it answers 403 Forbidden."),
        ({"status": 401}, "it answers 401 Unauthorized."),
        ({"flip": 150_000}, "the file that it sent has another content than published"),
        ({"length": 1000}, "it has 1,000 bytes; expected "),
        ({"location": "http://example.org/x", "at": "hub"}, "passes the request on to example.org, which is not one"),
        ({"location": "file:///etc/passwd", "at": "hub"}, "Redirection to url 'file:///etc/passwd' is not allowed"),
    ],
)
def test_a_fault_that_stays_leaves_nothing_and_is_told(files, root, hub, capsys, fault, said):
    hub.fail(VAE, **fault)
    status, text = run(capsys, "get", "vae", "--root", root)
    assert status == 1
    assert said in text
    assert "--mirror hf-mirror or modelscope" in text
    assert "by hand" in text
    assert "Run the same command again" not in text
    assert not lying_in(root)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 503}, "it answers 503 Service Unavailable 5 times."),
        ({"status": 429}, "it answers 429 Too Many Requests 5 times."),
        ({"drop_after": 10_000}, "the connection ended at 50,000 of "),
        ({"wait": 5}, "the connection failed (timed out) 5 times."),
    ],
)
def test_a_fault_that_may_pass_keeps_what_there_is_for_the_next_run(files, root, hub, capsys, monkeypatch, fault, said):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    hub.fail(VAE, **fault)
    status, text = run(capsys, "get", "vae", "--root", root)
    assert status == 1
    assert said in text
    assert "Run the same command again: it goes on where it stopped." in text
    assert set(lying_in(root)) == ({f"vae/{VAE}.part"} if "drop_after" in fault else set())
    hub.faults.clear()
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


@pytest.mark.parametrize("fault", [{"drop_after": 70_000}, {"status": 500}, {"status": 502, "at": "hub"}])
def test_a_fault_that_passes_is_not_noticed(files, root, hub, capsys, fault):
    hub.fail(VAE, times=2, **fault)
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}
    ranges = [asked.headers.get("range") for asked in hub.asked if asked.at == "store"]
    if "drop_after" in fault:
        assert ranges == [None, "bytes=70000-", "bytes=140000-"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(files, root, hub, capsys, status):
    hub.fail(VAE, at="hub", redirect=status)
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


def test_a_server_without_ranges_sends_it_all_again(files, root, hub, capsys):
    hub.fail(VAE, drop_after=70_000, ranges=False, times=1)
    hub.fail(VAE, ranges=False, times=1)
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


@pytest.mark.parametrize("left", [b"\0" * 50_000, b"\0" * 300_000])
def test_an_unfinished_file_of_other_content_or_too_long_is_begun_anew(files, root, hub, capsys, left):
    (root / "models/vae").mkdir()
    (root / f"models/vae/{VAE}.part").write_bytes(left)
    first = run(capsys, "get", "vae", "--root", root)[0]
    assert first == 0 or run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


def test_a_file_without_a_published_hash_is_compared_with_the_one_that_the_hub_names(files, root, hub, capsys):
    assert files["ip-adapter-plus"].sha256 is None
    hub.fail("ip_adapter_plus_general.safetensors", flip=150_000)
    status, said = run(capsys, "get", "ip-adapter-plus", "--root", root)
    assert status == 1
    assert "has another content" in said


def test_a_file_that_is_there_and_another_one_is_left_alone(files, root, hub, capsys):
    (root / "models/vae").mkdir()
    (root / f"models/vae/{VAE}").write_bytes(b"mine")
    status, said = run(capsys, "get", "vae", "unet", "--root", root)
    assert status == 1
    assert f"{VAE} " in said and "It was left alone. Move it away, or add --overwrite" in said
    assert lying_in(root) == {f"vae/{VAE}": b"mine"}
    assert not hub.asked, "nothing is fetched before everything was looked at"
    assert run(capsys, "get", "vae", "--root", root, "--overwrite")[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


def test_room_on_the_disk_is_asked_for_before_anything_is_fetched(files, root, hub, capsys, monkeypatch):
    real = download.shutil.disk_usage
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: real(path)._replace(free=SIZE))
    status, said = run(capsys, "get", "text-to-image", "--root", root)
    assert status == 1
    assert "There is not enough room in " in said and "--root" in said
    assert not hub.asked and not lying_in(root)


def test_a_disk_that_fills_up_is_told_and_the_rest_comes_later(files, root, hub, capsys, monkeypatch):
    disk = root / "models/vae"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        for module in (download, get):  # another program takes the room after it was asked for
            monkeypatch.setattr(module, "ask_for_room", lambda folder, needed: None)
        (disk / "other.bin").write_bytes(bytes(200_000))
        status, said = run(capsys, "get", "vae", "--root", root)
        assert status == 1
        assert f"{disk} is full. Make room" in said
        (disk / "other.bin").unlink()
        assert run(capsys, "get", "vae", "--root", root)[0] == 0
        assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_written_to_is_named(files, root, hub, capsys):
    (root / "models/vae").write_bytes(b"a file in the place of the folder")
    status, said = run(capsys, "get", "vae", "--root", root)
    assert status == 1
    assert f"{root / 'models/vae'} cannot be written to" in said


def test_another_mirror_is_used_and_named_where_it_has_no_such_file(files, root, hub, capsys, monkeypatch):
    monkeypatch.setitem(download.MIRRORS, "modelscope", hub.url)
    assert run(capsys, "get", "vae", "--root", root, "--mirror", "modelscope")[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}
    assert all("/models/AI-ModelScope/" in asked.target for asked in hub.asked)
    status, said = run(capsys, "get", "ip-adapter-plus", "--root", root, "--mirror", "modelscope")
    assert status == 1
    assert "ip_adapter_plus_general.safetensors of Kwai-Kolors/Kolors-IP-Adapter-Plus is not on modelscope." in said
    assert "--mirror huggingface or hf-mirror" in said


def test_unknown_names_are_listed(files, root, capsys):
    status, said = run(capsys, "get", "uent", "--root", root)
    assert status == 2
    assert said.startswith("There is no uent. Choose of text-to-image, ip-adapter, ") and "unet" in said


def test_files_are_taken_from_another_folder_without_the_network(files, root, hub, tmp_path, capsys):
    """By size and hash, whatever they are called; those without a hash by name."""
    downloads = tmp_path / "Downloads"
    (downloads / "deep").mkdir(parents=True)
    for name, place in {
        "unet": "diffusion_pytorch_model.fp16.safetensors",
        "vae": "deep/sdxl.vae (1).safetensors",
        "ip-adapter-plus": "ip_adapter_plus_general.safetensors",
        "vision-encoder": "model.safetensors",
    }.items():
        (downloads / place).write_bytes(content_of(files[name]))
    status, said = run(capsys, "get", "unet", "vae", "ip-adapter-plus", "--root", root, "--from", downloads)
    assert status == 0, said
    assert lying_in(root) == {files[name].place: content_of(files[name]) for name in ("unet", "vae", "ip-adapter-plus")}
    assert (root / "models" / files["unet"].place).stat().st_nlink == 2, "a hard link takes no room"
    assert (downloads / "diffusion_pytorch_model.fp16.safetensors").exists()
    status, said = run(capsys, "get", "tokenizer", "--root", root, "--from", downloads)
    assert status == 1
    assert f"tokenizer is not in {downloads}: expected tokenizer.model of " in said
    assert not hub.asked


def test_what_is_in_the_models_folder_under_another_name_is_not_fetched_again(files, root, hub, capsys):
    """Only where its hash is the published one."""
    old = root / "models/diffusers/Kolors/unet/diffusion_pytorch_model.fp16.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(content_of(files["unet"]))
    (root / "models/vae").mkdir()
    (root / "models/vae/other.safetensors").write_bytes(bytes(len(content_of(files["vae"]))))
    status, said = run(capsys, "get", "unet", "vae", "--root", root)
    assert status == 0, said
    assert f"  taken from {old}\n" in said
    assert (root / "models" / files["unet"].place).samefile(old)
    assert (root / "models" / files["vae"].place).read_bytes() == content_of(files["vae"])
    assert {asked.path for asked in hub.asked} == {files["vae"].path}


def test_an_unfinished_file_is_no_copy_and_does_not_stay(files, root, hub, tmp_path, capsys):
    """One that was killed when all had come is gone on with; one that is taken from elsewhere after all goes."""
    (root / "models/vae").mkdir()
    (root / f"models/vae/{VAE}.part").write_bytes(content_of(files["vae"]))
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}
    assert not hub.count(at="store")
    (root / "models/diffusion_models").mkdir()
    (root / f"models/{files['unet'].place}.part").write_bytes(b"half of it")
    (tmp_path / "x.bin").write_bytes(content_of(files["unet"]))
    assert run(capsys, "get", "unet", "--root", root, "--from", tmp_path)[0] == 0
    assert (root / "models" / files["unet"].place).samefile(tmp_path / "x.bin")
    assert set(lying_in(root)) == {f"vae/{VAE}", files["unet"].place}


def test_a_hard_link_needs_no_room(files, root, tmp_path, capsys, monkeypatch):
    (tmp_path / "x.bin").write_bytes(content_of(files["unet"]))
    real = download.shutil.disk_usage
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: real(path)._replace(free=0))
    assert run(capsys, "get", "unet", "--root", root, "--from", tmp_path)[0] == 0


def test_a_browsers_downloads_are_enough_without_the_tokenizer(files, root, hub, tmp_path, capsys):
    """Which the panel of a template does not fetch; asked for alone, it must be there."""
    for name in ("unet", "encoder", "vae"):
        (tmp_path / Path(files[name].path).name).write_bytes(content_of(files[name]))
    status, said = run(capsys, "get", "text-to-image", "--root", root, "--from", tmp_path)
    assert status == 0, said
    assert f"tokenizer: not in {tmp_path}; the text encoder's loader fetches it where it is missing" in said
    assert "3 brought, 0 there already." in said
    assert run(capsys, "get", "tokenizer", "--root", root, "--from", tmp_path)[0] == 1


def test_nothing_is_taken_where_one_of_the_files_is_missing(files, root, tmp_path, capsys):
    (tmp_path / "x.bin").write_bytes(content_of(files["unet"]))
    assert run(capsys, "get", "unet", "vae", "--root", root, "--from", tmp_path)[0] == 1
    assert not lying_in(root)


def test_overwrite_compares_the_hash_of_a_large_file(files, root, hub, capsys, monkeypatch):
    monkeypatch.setattr(get, "QUICK", 0)
    (root / "models/vae").mkdir()
    damaged = bytearray(content_of(files["vae"]))
    damaged[150_000] ^= 0xFF
    (root / f"models/vae/{VAE}").write_bytes(damaged)
    status, said = run(capsys, "get", "vae", "--root", root)
    assert status == 0 and "is there already" in said and not hub.asked
    assert run(capsys, "get", "vae", "--root", root, "--overwrite")[0] == 0
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


def test_a_file_of_a_common_name_and_another_size_is_not_taken(files, root, hub, tmp_path, capsys):
    assert files["vision-encoder"].sha256 is None
    (tmp_path / "model.safetensors").write_bytes(content_of(files["vae"], 100_000))
    status, said = run(capsys, "get", "vision-encoder", "--root", root, "--from", tmp_path)
    assert status == 1
    assert "expected clip-vit-large-patch14-336.safetensors or model.safetensors of " in said


def test_a_damaged_file_of_another_folder_is_not_taken(files, root, hub, tmp_path, capsys):
    content = bytearray(content_of(files["vae"]))
    content[150_000] ^= 0xFF
    (tmp_path / VAE).write_bytes(content)
    status, said = run(capsys, "get", "vae", "--root", root, "--from", tmp_path)
    assert status == 1
    assert f"{tmp_path / VAE} has another content than published" in said
    assert not lying_in(root)


@pytest.fixture
def saved(files, tmp_path):
    small_catalog.save(tmp_path)
    return tmp_path


def test_killed_at_ten_points_it_goes_on_and_ends_whole(files, saved, root, hub):
    """Never is anything under its final name that is not whole, and little is fetched twice."""
    wanted = {files[name].place: content_of(files[name]) for name in ("unet", "encoder", "tokenizer", "vae")}
    for _ in range(10):
        before = sum(map(len, lying_in(root).values()))
        process = start(saved, 0.01, "get", "text-to-image", "--root", root)
        deadline = time.monotonic() + 30
        while sum(map(len, lying_in(root).values())) < before + 65_000 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for place, content in lying_in(root).items():
            assert place.endswith(".part") or content == wanted[place]
    assert set(lying_in(root)) != set(wanted), "the last kill came before the end"
    process = start(saved, 0, "get", "text-to-image", "--root", root)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert lying_in(root) == wanted
    ranged = [asked for asked in hub.asked if asked.at == "store" and "range" in asked.headers]
    assert len(ranged) >= 8
    hosts = set((saved / "hosts.txt").read_text().split())
    assert hosts <= {"127.0.0.1"}, hosts


def test_two_runs_at_once_do_not_meet(files, saved, root, hub):
    first = start(saved, 0.3, "get", "vae", "--root", root)
    while not (root / f"models/vae/{VAE}.part").exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = start(saved, 0, "get", "vae", "--root", root)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"{VAE}.part in {root / 'models/vae'} is being fetched by another run. Let it finish." in said
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert lying_in(root) == {f"vae/{VAE}": content_of(files["vae"])}


def test_control_c_says_how_to_go_on(files, saved, root, hub):
    process = start(saved, 1, "get", "vae", "--root", root)
    while not hub.count(at="store"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("Stopped. The same command goes on where it stopped.\n")


def test_the_list_names_every_file_with_size_folder_licence_and_addresses(capsys, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    status, said = run(capsys, "list")
    assert status == 0
    for file in catalog.FILES:
        assert f"models/{file.place}" in said and file.licence in said
        assert f"https://huggingface.co/{file.repo}/resolve/" in said
    assert max(map(len, said.splitlines())) <= 200


def test_the_list_needs_neither_torch_nor_comfyui():
    code = (
        "import sys; from kolors_core.models.__main__ import main; main(['list']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'folder_paths', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_a_request_carries_no_credentials(files, root, hub, capsys, monkeypatch):
    """A token for the hub, and a login for every host, stay on this machine."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (root / ".netrc").write_text("default login me password hf_secret\n")
    monkeypatch.setenv("NETRC", str(root / ".netrc"))
    monkeypatch.setenv("HOME", str(root))
    assert run(capsys, "get", "vae", "--root", root)[0] == 0
    assert [asked.at for asked in hub.asked] == ["hub", "store"]
    assert not [asked for asked in hub.asked if "hf_secret" in str(asked.headers) or "authorization" in asked.headers]
