"""Workflow and table, and the jobs that they make."""

from __future__ import annotations

import copy
import json
import struct
import zlib

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.migrate.embedded import read_graph
from comfyui_kolors.kolors_core.render.jobs import Job, Plan, list_seeds
from comfyui_kolors.kolors_core.render.png import put_graph
from comfyui_kolors.kolors_core.render.table import Table
from comfyui_kolors.kolors_core.render.workflow import read_workflow


def make_jobs(graph: dict, content: str, name: str = "t.csv", **more: object) -> list[Job]:
    return list(Plan(graph, Table(name, content.encode()), "/tables", **more).jobs())


# ---- the workflow


def png(**texts: str) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [chunk(b"tEXt", f"{key}\0{text}".encode()) for key, text in texts.items()]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0abc")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + pixels


def test_a_workflow_is_read_from_json_requests_and_images(graph, tmp_path):
    stamped = copy.deepcopy(graph)
    stamped["1"]["is_changed"] = ["/models/kolors.safetensors 1 2"]
    canvas = json.dumps({"nodes": [], "links": [], "version": 0.4})
    for content in (
        json.dumps(graph).encode(),
        json.dumps({"prompt": graph, "client_id": "x"}).encode(),
        png(workflow=canvas, prompt=json.dumps(stamped)),
    ):
        path = tmp_path / "workflow"
        path.write_bytes(content)
        assert read_workflow(path) == graph


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"nodes": [], "links": [], "version": 0.4}).encode(), "holds a canvas"),
        (png(workflow=json.dumps({"nodes": [], "links": [], "version": 0.4})), "holds a canvas"),
        (png(), "is a PNG without a graph in it"),
        (b"GIF89a", "is a GIF"),
        (b"{", "is neither JSON"),
        (b"[1]", "is JSON, but not a workflow"),
    ],
)
def test_what_is_no_workflow_is_named(tmp_path, content, said):
    path = tmp_path / "workflow.json"
    path.write_bytes(content)
    with pytest.raises(KolorsError) as error:
        read_workflow(path)
    assert said in str(error.value) and "workflow.json" in str(error.value) and "Export (API)" in str(error.value)
    with pytest.raises(KolorsError, match=r"gone.json cannot be read: No such file"):
        read_workflow(tmp_path / "gone.json")


def test_the_graph_of_a_png_is_replaced(graph):
    content = png(workflow="canvas", prompt="{}", parameters="kept")
    found = put_graph(content, {"1": {"text": "可图"}})
    assert read_graph(found, ("workflow", "prompt")) == '{"1": {"text": "\\u53ef\\u56fe"}}'
    assert b"parameters\0kept" in found and found.endswith(content[-40:])
    assert put_graph(found, {"1": {"text": "可图"}}) == found
    for other in (b"RIFF....WEBP", content[:-20]):
        assert put_graph(other, graph) == other


# ---- tables


def test_the_same_rows_from_every_kind_of_table(graph):
    csv = '\ufeffprompt,seed,5.denoise\n可图,1,0.5\n\n"a, b",,\n'
    tsv = "prompt\tseed\t5.denoise\n可图\t1\t0.5\na, b\t\t\n"
    lines = '{"prompt": "可图", "seed": 1, "5.denoise": 0.5}\n\n{"prompt": "a, b", "seed": null}\n'
    tables = [make_jobs(graph, text, name) for text, name in ((csv, "t.csv"), (tsv, "t.TSV"), (lines, "t.jsonl"))]
    assert [job.graph for job in tables[0]] == [job.graph for job in tables[1]] == [job.graph for job in tables[2]]
    first, second = tables[0]
    assert first.graph["2"]["inputs"]["text"] == "可图" and first.graph["5"]["inputs"]["denoise"] == 0.5
    assert (first.seed, second.seed) == (1, 1) and second.graph["5"]["inputs"]["denoise"] == 1.0
    assert graph["2"]["inputs"]["text"] == "a cat", "the workflow stays as it is"
    pyarrow = pytest.importorskip("pyarrow")
    import io

    from pyarrow.parquet import write_table

    file = io.BytesIO()
    rows = [{"prompt": "可图", "seed": 1, "5.denoise": 0.5}, {"prompt": "a, b"}]
    write_table(pyarrow.Table.from_pylist(rows), file)
    found = list(Plan(graph, Table("t.parquet", file.getvalue()), "").jobs())
    assert [job.graph for job in found] == [job.graph for job in tables[0]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", "", "t.xlsx is no table. Expected one of .csv, .tsv, .jsonl"),
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "prompt\n", "has a header and no rows"),
        ("t.csv", "prompt,prompt\na,b\n", "has the column 'prompt' twice"),
        ("t.csv", "prompt,\na,b\n", "a column without a name"),
        ("t.csv", "prompt,seed\na, b,1\n", "has 3 cells in row 1 and 2 columns"),
        ("t.csv", 'prompt\n"a\n', "is no CSV that can be read"),
        ("t.csv", "prompt,seed\na,1\nb,1.5\n", "t.csv, row 2, column 'seed': '1.5' is not a whole number"),
        ("t.csv", "prompt,seed,seeds\na,1,2\n", "row 1, column 'seeds': the row has a seed as well"),
        ("t.csv", "prompt,seeds\na,9-1\n", "row 1, column 'seeds': '9-1' is no range of seeds"),
        ("t.csv", "prompt,kind\na,b\n", "t.csv: The column 'kind' sets nothing in this workflow"),
        ("t.jsonl", "", "has no rows"),
        ("t.jsonl", "{\n", "has no JSON in row 1"),
        ("t.jsonl", "[1]\n", "has list in row 1"),
        ("t.jsonl", '{"prompt": 3}\n', "column 'prompt': 3 is not text"),
        ("t.parquet", "nothing", "is no Parquet file"),
    ],
)
def test_a_bad_table_is_named_with_its_row(graph, name, content, said):
    if name == "t.parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(KolorsError) as error:
        make_jobs(graph, content, name)
    assert said in str(error.value)


def test_another_encoding_is_said(graph):
    with pytest.raises(KolorsError, match="not in UTF-8"):
        list(Plan(graph, Table("t.csv", "prompt\n可图\n".encode("gbk")), "").jobs())


# ---- jobs


def test_a_row_has_a_job_for_each_of_its_seeds(graph):
    jobs = make_jobs(graph, "prompt,seeds\na,3-5\nb,7\nc,\n")
    assert [(job.id, job.seed) for job in jobs] == [
        ("000001-001", 3),
        ("000001-002", 4),
        ("000001-003", 5),
        ("000002-001", 7),
        ("000003", 1),
    ]
    assert jobs[0].values == {"prompt": "a", "seed": 3} and len({job.hash for job in jobs}) == 5
    assert Job.from_json(jobs[0].to_json()) == jobs[0]


@pytest.mark.parametrize(
    ("cell", "seeds"),
    [("1-3, 8", [1, 2, 3, 8]), ([4, 5], [4, 5]), (6, [6]), ("[7, 8]", [7, 8]), ("2 - 3 3", [2, 3])],
)
def test_seeds_are_lists_and_ranges(cell, seeds):
    assert list_seeds(cell) == seeds


@pytest.mark.parametrize("cell", ["", "x", [], "1-99999999", -1, [1.5]])
def test_other_seeds_are_refused(cell):
    with pytest.raises(ValueError):
        list_seeds(cell)


def test_kept_columns_set_nothing_and_stay(graph):
    (job,) = make_jobs(graph, "prompt,kind\na,b\n", keep=("kind",))
    assert job.values == {"prompt": "a", "kind": "b"}
    with pytest.raises(KolorsError, match=r"has no column 'sort' to keep. It has prompt, kind"):
        make_jobs(graph, "prompt,kind\na,b\n", keep=("sort",))


def test_images_are_looked_for_beside_the_table(graph):
    graph["8"] = {"class_type": "LoadImage", "inputs": {"image": "x.png"}}
    jobs = make_jobs(graph, "8.image\na/b.png\n/c.png\ns3://bucket/d.png\n")
    assert [job.images["8.image"].replace("\\", "/") for job in jobs] == [
        "/tables/a/b.png",
        "/c.png",
        "s3://bucket/d.png",
    ]
    assert jobs[0].graph["8"]["inputs"]["image"] == "a/b.png"
    table = Table("t.csv", b"8.image\na.png\n")
    (job,) = Plan(graph, table, "s3://bucket/tables").jobs()
    assert job.images == {"8.image": "s3://bucket/tables/a.png"}
