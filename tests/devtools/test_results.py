"""devtools/results.py."""

from __future__ import annotations

import re
import subprocess

import pytest
from comfyui_kolors.devtools.results import commit, read_junit, readable

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


def test_a_report_of_pytest_is_read_by_tests(tmp_path):
    (tmp_path / "a.xml").write_text(JUNIT)
    assert read_junit(tmp_path / "a.xml") == {
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
def test_messages_are_short_and_name_no_folder_of_this_machine(message, shown):
    assert readable(message) == shown


def test_a_commit_with_changes_is_marked(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    assert commit(tmp_path) == "unknown"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    clean = commit(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "hosts.md").touch()
    assert re.fullmatch(r"[0-9a-f]{7,}", clean) and commit(tmp_path) == clean
    (tmp_path / "new.py").touch()
    assert commit(tmp_path) == f"{clean}+"
