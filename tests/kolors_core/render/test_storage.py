"""Folders and object stores, and the manifest in them."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.render.jobs import Plan
from comfyui_kolors.kolors_core.render.keys import Keys, KeySet
from comfyui_kolors.kolors_core.render.manifest import LINES, Manifest
from comfyui_kolors.kolors_core.render.storage import StorageFault, hide, join, open_storage, read_file, split
from comfyui_kolors.kolors_core.render.table import Table


@pytest.fixture(scope="module")
def bucket():
    """A bucket of an object store on this machine, as a URL that ends with its end point."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: the tests bring a store with it")
    pytest.importorskip("pyarrow")
    import boto3

    store = server.ThreadedMotoServer(port=0)
    store.start()
    host, port = store.get_host_and_port()
    keys = {"aws_access_key_id": "name", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="bucket")
    yield "s3://name:secret@bucket/{}" + f"?scheme=http&region=us-east-1&endpoint_override={host}:{port}"
    store.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request, tmp_path):
    if request.param == "memory":
        pytest.importorskip("fsspec")
        return f"memory://{tmp_path.name}"
    return (
        str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket").format(tmp_path.name)
    )


def test_a_storage_keeps_files(place):
    storage = open_storage(place)
    assert storage.sizes("images/0000") == {} and not storage.exists("images/0000/a.png")
    storage.write("images/0000/a.png", b"abc")
    storage.write("images/0000/b.png", b"")
    storage.write("images/0000/a.png", b"abcd")
    assert storage.sizes("images/0000") == {"a.png": 4, "b.png": 0}
    assert open_storage(place).read("images/0000/a.png") == b"abcd" and storage.exists("images/0000/a.png")
    storage.delete(["images/0000/a.png", "images/0000/gone.png"])
    assert storage.sizes("images/0000") == {"b.png": 0}
    assert "secret" not in storage.shown
    with pytest.raises(KolorsError) as error:
        read_file(join(place.partition("?")[0], "gone.png") + "?".join(["", *place.split("?")[1:]]))
    assert "gone.png cannot be read" in str(error.value) and "secret" not in str(error.value)


def test_a_bucket_that_takes_nothing_is_named(bucket):
    with pytest.raises(StorageFault, match=r"s3://none/x/a.png cannot be written") as error:
        open_storage(bucket.replace("@bucket", "@none").format("x")).write("a.png", b"abc")
    assert "secret" not in str(error.value)


@pytest.fixture
def read_only():
    """A bucket that shows what it has, which is nothing, and takes nothing."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, b"<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount></ListBucketResult>")

        def do_HEAD(self) -> None:
            self.answer(404, b"")

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

        do_POST = do_PUT

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    pytest.importorskip("pyarrow")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        yield f"s3://name:secret@bucket/x?scheme=http&region=us-east-1&endpoint_override={host}"
        server.shutdown()


def test_a_read_only_bucket_is_told_before_anything_is_drawn(command, read_only):
    done = command.run(command.table([{"prompt": "a"}]), out=read_only, options="--no-start")
    assert done.returncode == 1 and "s3://bucket/x/run.json cannot be written" in done.stderr, done.stderr
    assert (
        "ACCESS_DENIED" in done.stderr and "secret" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    )


def test_a_run_into_a_bucket_goes_on_and_tells_no_secret(command, bucket):
    out = bucket.format("run")
    rows = [{"prompt": f"prompt {i}"} for i in range(4)]
    assert command.run(command.table(rows[:2]), out=out).returncode == 0
    done = command.run(command.table(rows), out=out)
    assert done.returncode == 0 and "4 jobs, 2 of them done before" in done.stdout, done.stderr
    storage = open_storage(out)
    lines = {line["row"]: line for line in Manifest(storage).lines()}
    assert sorted(lines) == [1, 2, 3, 4]
    for line in lines.values():
        (file,) = line["files"]
        assert len(storage.read(file["name"])) == file["bytes"]
    names = [f"{folder}{name}" for folder in ("", "manifest/") for name in storage.sizes(folder.rstrip("/"))]
    assert {"run.json", "manifest.parquet"} <= set(names)
    assert not [name for name in names if b"secret" in storage.read(name)]
    assert "secret" not in done.stdout + done.stderr


def test_a_url_that_nothing_reaches_is_named(monkeypatch):
    with pytest.raises(KolorsError, match=r"nowhere://place"):
        open_storage("nowhere://place/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(KolorsError, match=r"s3://bucket/x: for URLs fsspec is needed"):
        open_storage("s3://name:secret@bucket/x")


def test_locations_are_joined_split_and_hidden():
    assert join("s3://b/x", "a.png") == "s3://b/x/a.png" and join("s3://b", "s3://c/a.png") == "s3://c/a.png"
    assert join("s3://b/x?scheme=http", "a/b.png") == "s3://b/x/a/b.png?scheme=http"
    assert split("s3://b/x/a.png?scheme=http") == ("s3://b/x?scheme=http", "a.png")
    assert split("https://b/x/a.png?signature=1") == ("https://b/x", "a.png?signature=1")
    assert hide("s3://key:secret@b/x?token=1") == "s3://b/x" and hide("C:\\x") == "C:\\x"


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("a.png", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFault, match=r"a.png cannot be written: No space left on device"):
        storage.write("a.png", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"old")]


# ---- the manifest


def make_plan(graph: dict, count: int) -> Plan:
    return Plan(graph, Table("t.csv", ("seed\n" + "".join(f"{i}\n" for i in range(count))).encode()), "")


def line_of(job, error: str | None = None, name: str = "") -> dict:
    files = [{"name": name or f"images/0000/{job.id}.png", "bytes": 3, "sha256": "x"}]
    line = {"row": job.row, "number": job.number, "hash": job.hash, "values": job.values, "seed": job.seed}
    return line | {"files": [] if error else files, "error": error}


def test_a_manifest_goes_on_wherever_it_stopped(graph, place):
    plan, storage = make_plan(graph, 6), open_storage(place)
    manifest, jobs = Manifest(storage), list(plan.jobs())
    for job in jobs[:5]:
        storage.write(f"images/0000/{job.id}.png", b"abc")
        line = line_of(job, "failed" if job.row == 4 else None)
        manifest.record(line)
        manifest.add(line)
    storage.delete([f"images/0000/{jobs[1].id}.png"])
    assert len(storage.sizes("manifest")) == 5
    manifest._gather([line_of(jobs[0])], [])  # killed before the single line was deleted
    keys, done = Manifest(storage).resume(plan.jobs())
    assert keys.count == 6 and [row for row in range(9) if (row, 0) in done] == [1, 3, 5] and len(done) == 3
    assert len(storage.sizes("manifest")) == 2 and not any(
        name.startswith("row-") for name in storage.sizes("manifest")
    )
    assert sorted((line["row"], line["error"]) for line in manifest.lines()) == [(1, None), (3, None), (5, None)]
    graph["5"]["inputs"]["steps"] = 30
    keys, done = Manifest(storage).resume(make_plan(graph, 2).jobs())
    assert (keys.count, len(done)) == (2, 0)
    assert sorted(line["row"] for line in manifest.lines()) == [3, 5], "rows that the table no longer has stay"


def test_keys_of_rows_with_and_without_seeds():
    keys, some = Keys(), KeySet()
    for place, key in enumerate([(1, 0), (2, 1), (2, 2), (2, 3), (3, 0)]):
        keys.add(key)
        assert keys.place(key) == place
    assert keys.count == 5 and not [key for key in ((0, 0), (1, 1), (2, 0), (2, 4), (3, 1), (4, 0)) if keys.place(key)]
    assert keys.place((2, 4)) is None and keys.place((0, 0)) is None and keys.place((1, 1)) is None
    for key in ((1, 0), (70_000, 0), (2, 3), (2, 300), (1, 0)):
        some.add(key)
    assert len(some) == 4 and all(key in some for key in ((1, 0), (70_000, 0), (2, 3), (2, 300)))
    assert not any(key in some for key in ((2, 0), (2, 2), (0, 0), (69_999, 0), (70_001, 0), (90_000, 0), (3, 3)))


def test_many_lines_move_into_few_files(graph, tmp_path):
    storage = open_storage(str(tmp_path))
    manifest = Manifest(storage)
    for job in make_plan(graph, LINES + 2).jobs():
        manifest.record(line_of(job))
        manifest.add(line_of(job))
    assert len(storage.sizes("manifest")) == 3
    manifest.tidy()
    assert len(storage.sizes("manifest")) == 2 and len(list(manifest.lines())) == LINES + 2


@pytest.mark.parametrize("content", [b"{", b"[]\n", b'{"row": 1}\n', b"\xff\n"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    storage = open_storage(str(tmp_path))
    storage.write("manifest/rows-1.jsonl", content)
    with pytest.raises(KolorsError, match=r"rows-1.jsonl is no manifest.*Delete the file"):
        list(Manifest(storage).lines())
