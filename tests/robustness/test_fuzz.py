"""More than a thousand damaged files: each ends in a normal load or in one clear error, and none runs code."""

import pytest

pytestmark = pytest.mark.host

CASES, LONG_CASES = 1000, 4000  # every damage to every file are as many; beyond them it is chance
SHORTEST = 40  # characters of an error that says what was found and what to do
MAX_MEMORY = 768  # MiB; a bomb among the files would take a gigabyte or more


def test_every_damaged_file_loads_or_is_named(long, write_report):
    pytest.importorskip("resource", reason="no figures of memory on this system")
    from fuzz import EXPECTED, LOADED, MAX_SECONDS, run

    outcomes, figures = run(LONG_CASES if long else CASES, seed=0)
    surprises = [f"{o.case}: {o.kind}: {o.text}\n{o.where}" for o in outcomes if o.kind not in EXPECTED]
    assert not surprises, "\n".join(surprises)
    failed = [o for o in outcomes if o.case.endswith((", none", ", link_outside")) and o.kind != LOADED]
    assert not failed, "the good files themselves have to load, and to work"
    assert len(outcomes) >= CASES
    assert max(outcome.seconds for outcome in outcomes) < MAX_SECONDS
    assert figures["peak memory after, MiB"] - figures["peak memory before, MiB"] < MAX_MEMORY
    assert not [o for o in outcomes if o.kind != LOADED and len(o.text) < SHORTEST]
    write_report("fuzz", figures)
