"""benchmarks/scale: every case of curves.py runs, small, and its verdicts are right; saving.py measures."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest

from ssl_zoo import contrast

FILE = Path(__file__).parents[1] / "benchmarks/scale/curves.py"
SMALL = {"nt_xent": 2048, "board": 3, "store": 1, "reading": 64, "noise": 4}


@pytest.fixture
def curves(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("curves", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "curves", module)
    monkeypatch.setenv("CURVES_FOLDER", str(tmp_path / "it"))
    monkeypatch.setattr(contrast, "gather", contrast.gather)  # put back what a case replaces
    spec.loader.exec_module(module)
    return module


def test_every_case_runs(curves):
    for name, case in curves.CASES.items():
        if (folder := Path(curves.os.environ["CURVES_FOLDER"])).exists():
            folder.rename(folder.with_name(f"before-{name}"))
        case.make(SMALL.get(name, 1000))()


def test_verdicts(curves, monkeypatch, tmp_path, capsys):
    case = curves.Case("it", "rows", (10, 100), True, curves.order)
    monkeypatch.setattr(
        curves, "CASES", {"a": case, "b": case._replace(power=2), "c": case._replace(flat=False)}
    )
    monkeypatch.setattr(curves, "RESULTS", tmp_path / "it.json")
    slow = [{"n": 10, "seconds": 1.0, "mib": 50.0}, {"n": 100, "seconds": 12.0, "mib": 90.0}]
    fine = [slow[0], {"n": 100, "seconds": 10.5, "mib": 60.0}]
    curves.RESULTS.write_text(json.dumps({"a": slow, "b": fine, "c": slow}))
    curves.show()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0].endswith("| 1.08 | **missed: time, memory** |")
    assert rows[1].endswith("| 1.02 | met |")
    assert rows[2].endswith("| 1.08 | **missed: time** |")


def test_what_is_recorded_is_of_the_cases(curves):
    found = json.loads(curves.RESULTS.read_text())
    for name, points in found.items():
        assert {one["n"] for one in points} >= set(curves.CASES[name].sizes), name
    assert found.keys() == curves.CASES.keys()


def test_saving_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["saving.py", "--tiny"])
    runpy.run_path(str(FILE.with_name("saving.py")), run_name="__main__")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("written")]
    assert [line.split(":")[0] for line in said] == ["written at once", "written by a thread"]
