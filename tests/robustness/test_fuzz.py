"""More than a thousand damaged files: each ends in a normal load or in one clear error, and none runs code."""

import pytest

pytestmark = pytest.mark.host

CASES = 1200


def test_every_damaged_file_loads_or_is_named(record_property):
    from fuzz import EXPECTED, run

    outcomes, report = run(CASES, seed=0)
    for name, value in report.items():
        record_property(name, value)
    surprises = [f"{o.case}: {o.kind}: {o.text}\n{o.where}" for o in outcomes if o.kind not in EXPECTED]
    assert not surprises, "\n".join(surprises)
    assert len(outcomes) >= CASES
    assert report["outcomes"]["loaded"] > 20, "the good files themselves have to load"
    assert max(outcome.seconds for outcome in outcomes) < 30
    assert report["peak memory after, MiB"] - report["peak memory before, MiB"] < 1024
    for outcome in outcomes:
        if outcome.kind != "loaded":
            assert len(outcome.text) > 40, outcome
