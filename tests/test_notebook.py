"""The notebook of the documentation runs on a results folder."""

import ast
import json

import matplotlib
import matplotlib.pyplot as plt
import pytest

from ditgta.stages import table
from tests.conftest import ROOT
from tests.report.suite import make_suite


@pytest.fixture
def results(tmp_path, monkeypatch):
    arguments = make_suite(tmp_path / "made", seeds=(0, 1))
    table.run(**arguments, out=tmp_path / "results/table/pets-1234")
    for path in arguments["scores"]:
        experiment, seed, step = path.stem.split("-")
        for suffix in (".json", ".npz"):
            copy = tmp_path / f"results/score/{experiment}-1234/seed{seed}/{step}{suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.with_suffix(suffix).read_bytes())
    monkeypatch.chdir(tmp_path)


def test_every_cell_runs(results):
    matplotlib.use("agg")
    notebook = json.loads((ROOT / "docs/results.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names, values = {}, []
    for cell in cells:
        *statements, last = ast.parse(cell).body
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        values.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert len(values[0]) == 12 and len(values[1]) == 2
    figures = [[label.get_text() for label in value.axes[0].get_yticklabels()] for value in values[2:4]]
    assert sorted(figures[0]) == ["abs", "gta", "rope"] and len(figures[1]) == 2
    assert values[4].low < values[4].value < values[4].high and values[4].seeds == 2
    plt.close("all")
