"""The notebook runs from top to bottom, and what it prints holds."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install '.[dev]'")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install '.[dev]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install '.[dev]'")

NOTEBOOK = Path(__file__).parents[1] / "examples/demo.ipynb"
BRAIN = Path(str(resources.files("pixelsleuth"))) / "assets/brain_t1/config.json"


def executed(half: str) -> Any:
    """The notebook's cells of one half, run in a kernel of their own."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if set(cell.metadata.tags) & {"setup", half}]
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=NOTEBOOK.parent)
    return notebook


def printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_face_is_judged_as_the_text_says() -> None:
    notebook = executed("face")
    found = dict(re.findall(r"^(\w+) +(\w+) +p = ", printed(notebook), re.M))
    assert found["untouched"] == "normal"
    assert pictures(notebook) == 8
    assert found["mouth_upside_down"] == "anomalous"


@pytest.mark.skipif(not BRAIN.is_file(), reason="the model brain_t1 is not bundled")
def test_the_anomaly_of_the_slice_is_located() -> None:
    notebook = executed("brain")
    told = printed(notebook)
    # A template is no scan of the study: the model refuses it, and asked all the same its map changes at the anomaly.
    assert "unsure: the scan is not prepared like those that the model was calibrated on" in told
    assert re.findall(r"^(\w+) +(\w+) +p = ([\d.]+)", told, re.M) == [
        ("template", "anomalous", "0.091"),
        ("anomaly", "anomalous", "0.091"),
    ]
    inside, elsewhere = map(float, re.findall(r"inside the mask (-?[\d.]+), elsewhere (-?[\d.]+)", told)[0])
    assert inside > 0.05
    assert inside > 10 * abs(elsewhere)
    assert pictures(notebook) == 3
