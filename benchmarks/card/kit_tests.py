"""The project's own tests on the device: tests/host in float32, and at the same time tests/server as users run it.

Into tests.json (by test, as they end), tests.xml (junit, at the end) and kit.log (tracebacks, the slowest).
KIT_WORKERS: processes for the two, 6 and 5 by default; 0 for one after the other in one process each. KIT_HOST,
KIT_SERVER: other files or tests, or - for none; pytest's options may stand there as well.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as tree
from collections import Counter

from kit_common import OUT, ROOT, WORK, Report, left, say

#: tests/server without what has nothing to do with the device (files, texts, migration), the most telling first.
SERVER = "server_starts miniature stages models control_net ip_adapter face_nodes lora text_encoder sampling"
SERVER += " sampler_bridge stock_models prompts changed_files"


def main() -> None:
    workers = [int(part) for part in os.environ.get("KIT_WORKERS", "6 5").split()]
    chosen = {
        "host": os.environ.get("KIT_HOST", "tests/host"),
        "server": os.environ.get("KIT_SERVER", " ".join(f"tests/server/test_{name}.py" for name in SERVER.split())),
    }
    WORK.mkdir(parents=True, exist_ok=True)
    report = Report("tests")
    report.fact("workers", workers)
    parts = [name for name, paths in chosen.items() if paths != "-"]
    for name in parts:
        for path in (WORK / f"tests-{name}.json", WORK / f"tests-{name}.xml"):
            path.unlink(missing_ok=True)
    running = {}
    for index, name in enumerate(parts):
        count = workers[min(index, len(workers) - 1)]
        running[name] = start(name, shlex.split(chosen[name]), count)
        if not count:  # a machine of few cores: one after the other
            follow(report, {name: running[name]}, parts)
    follow(report, running, parts)
    merge_xml(parts)
    finish(report, parts)


def start(name: str, tests: list[str], workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "pytest", "-p", "kit_plugin", "-q", "--tb=short", "--durations=25"]
    command += ["-p", "no:cacheprovider", "-p", "no:faulthandler", "-o", "junit_family=xunit2"]
    command += [f"--junitxml={WORK / f'tests-{name}.xml'}", *tests]
    command += ["--timeout=100"] if importlib.util.find_spec("pytest_timeout") else []
    if workers:
        command += ["-n", str(workers), "--dist", "loadfile", "--max-worker-restart", "4"]
    folder = WORK / f"tmp-{name}"
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    environment |= {"KIT_RESULTS": str(WORK / f"tests-{name}.json")}
    print("----", " ".join(command), flush=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def follow(report: Report, running: dict, parts: list[str]) -> None:
    """Gather results until all have ended or the time is up; then let pytest end by itself, which writes its report."""
    said = 0.0
    while any(process.poll() is None for process in running.values()):
        time.sleep(0.5)
        if left() < 14:
            for process in running.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
            for process in running.values():
                try:
                    process.wait(max(0.5, left() - 3))
                except subprocess.TimeoutExpired:
                    process.kill()
            say("stopped by the time limit")
            break
        if time.time() - said > 15:
            said = time.time()
            gather(report, parts)
            say(str(report.data["facts"]["counts"]))


def gather(report: Report, parts: list[str]) -> None:
    checks, counts = {}, {}
    for name in parts:
        path = WORK / f"tests-{name}.json"
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        counts[name] = dict(Counter(entry["outcome"] for entry in entries.values()))
        checks |= entries
    report.data["facts"]["counts"] = counts
    names = {"passed": "ok", "failed": "FAILED", "error": "ERROR"}
    report.data["checks"] = {
        key: entry | {"outcome": names.get(entry["outcome"], entry["outcome"])}
        for key, entry in sorted(
            checks.items(), key=lambda item: (item[1]["outcome"] in ("passed", "skipped"), item[0])
        )
    }
    report.write()


def merge_xml(parts: list[str]) -> None:
    whole = tree.Element("testsuites")
    for name in parts:
        path = WORK / f"tests-{name}.xml"
        if path.is_file():
            for suite in tree.parse(path).getroot().iter("testsuite"):
                suite.set("name", name)
                whole.append(suite)
    tree.ElementTree(whole).write(OUT / "tests.xml", encoding="utf-8")


def finish(report: Report, parts: list[str]) -> None:
    gather(report, parts)
    slow = sorted(((entry["seconds"], key) for key, entry in report.data["checks"].items()), reverse=True)[:12]
    report.fact("slowest", slow)
    say(f"tests: {report.data['facts']['counts']}")


if __name__ == "__main__":
    main()
