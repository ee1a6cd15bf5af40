"""`pixelsleuth demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pixelsleuth.records import MAX_FALSE_ALARM

#: What the demo must not be taken for.
ABOUT = (
    "One photograph shows how it works, not how well: in others the same kinds of edit are found more or less often "
    "(docs/limits.md)"
)


def demo(out: Annotated[Path, typer.Option("--out", help="Folder for what is written.")] = Path("demo-out")) -> None:
    """Judge a bundled photograph and tampered copies of it, and write a report. Takes under a minute."""
    from pixelsleuth.demo import write_pictures
    from pixelsleuth.detector import Detector

    detector = Detector.load("faces")
    paths = write_pictures(out / "pictures")
    findings = _detect_to(detector, paths, out, "pixelsleuth demo")
    table = Table(title="pixelsleuth demo: one real photograph and tampered copies of it")
    for column in ("picture", "verdict", "p-value", "regions", "seconds"):
        table.add_column(column)
    for finding in findings:
        table.add_row(
            Path(finding.path).stem, finding.verdict, f"{finding.p_value:.4f}", str(len(finding.regions)),
            f"{finding.seconds:.2f}",
        )  # fmt: skip
    Console().print(table)
    count = detector.calibration.count
    print(f"p-value: rank among {count:,} untouched faces; anomalous means {MAX_FALSE_ALARM:g} or less")
    untouched, *edited = findings
    caught = sum(finding.verdict == "anomalous" for finding in edited)
    lower = sum(finding.p_value < untouched.p_value for finding in edited)
    print(
        f"{caught} of {len(edited)} edits are called anomalous; {lower} are less like untouched faces than the original"
    )
    print(ABOUT)
    print(f"report: {out / 'report.html'}   findings: {out / 'findings.jsonl'}   heatmaps: {out / 'heatmaps'}")


def _detect_to(detector: Any, paths: list[Path], out: Path, command: str) -> list[Any]:
    """Detect a few inputs and write records, heatmaps and the report."""
    from pixelsleuth.language import language
    from pixelsleuth.reporting.report import Judge, Report
    from pixelsleuth.reporting.writing import RecordWriter, save_heatmap

    say = language()
    writer = RecordWriter(out / "findings.jsonl", "jsonl", sys.stdout)
    report = Report(Judge.of(detector, "faces"), command)
    findings = []
    for number, finding in enumerate(detector.detect_many(paths)):
        finding = save_heatmap(finding, out, number)
        writer.write(finding.record())
        findings.append(finding)
        # As the page names its examples.
        report.add(finding, say(f"page.example.{Path(finding.path).stem}"))
    writer.close()
    report.write(out / "report.html")
    return findings
