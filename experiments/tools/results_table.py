"""Every score of a metrics.json that `pixelsleuth evaluate --out DIR` wrote, as a table.

python experiments/tools/results_table.py runs/test/metrics.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def shown(value: list[float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def main() -> None:
    metrics = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    default = metrics["default_score"]
    names = [default, "text_tail_sum", *(n for n in sorted(metrics["scores"]) if n not in (default, "text_tail_sum"))]
    pairs = metrics.get("paired_accuracy_by_score", {})
    print("| score | AUROC | AP | TPR at 1% | TPR at 5% | paired |\n| --- | --- | --- | --- | --- | --- |")
    for name in names:
        row = metrics["scores"][name]
        cells = [shown(row[k]) for k in ("auroc", "ap", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05")]
        print(f"| `{name}` | {' | '.join(cells)} | {shown(pairs[name]) if name in pairs else ''} |")
    if "pixel" in metrics:
        print("\n| map | pixel AUROC | AP | change | partner's map |\n| --- | --- | --- | --- | --- |")
        for name, row in metrics["pixel"].items():
            cells = [shown(row[k]) if k in row else "" for k in ("auroc", "ap", "change_auroc", "partner_auroc")]
            print(f"| `{name}` | {' | '.join(cells)} |")
    for name in ("n_normal", "n_anomalous", "n_no_face", "n_masked", "pixel_prevalence", "n_text_restoration"):
        if name in metrics:
            print(f"{name}: {metrics[name]}")
    for name in ("paired_accuracy", "blur_rank_correlation", "false_alarm", "promised_band", "null_controls"):
        print(f"{name}: {metrics.get(name)}")
    print("differences:", json.dumps(metrics["differences"]))
    print("shortcuts:", metrics["shortcuts"])


if __name__ == "__main__":
    main()
