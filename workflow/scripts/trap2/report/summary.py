"""A run's result in a few lines, for whoever has just made it."""

from __future__ import annotations

from collections.abc import Mapping

from trap2.report.shapes import Row, Rows
from trap2.report.tables.columns import numbers


def summary(
    table1: Rows,
    table2: Rows,
    lambdas: Mapping[str, Mapping[str, float]],
    places: Mapping[str, str],
    seed: int,
    manifest: str,
) -> str:
    """What Tables 1 and 2 say about each backbone, and where the artifacts are.

    Args:
        table1: rows of the standalone table.
        table2: rows of the merging table.
        lambdas: the chosen λ by backbone and task.
        places: what each artifact shows, by path.
        seed: the run's.
        manifest: the SHA-256 of the run's manifest.
    """
    suite = table1[0]["suite"]
    lines = [f"The {suite} suite, seed {seed}: test accuracy in percent, mean over its tasks."]
    if suite != "paper":
        lines[0] += " These are this suite's own numbers, not the paper's."
    for backbone in dict.fromkeys(row["backbone"] for row in table1):
        alone = {r["protection"]: float(r["average"]) for r in table1 if r["backbone"] == backbone}
        merged = {r["protection"]: r for r in table2 if r["backbone"] == backbone}
        lines += ["", backbone, *_backbone_lines(alone, merged)]
        chosen = ", ".join(f"{task} {lambda_:g}" for task, lambda_ in lambdas[backbone].items())
        lines.append(f"  λ of TRAP²:    {chosen}")
    lines += ["", "Where it is:"]
    width = max(map(len, places))
    lines += [f"  {path:<{width}}  {what}" for path, what in places.items()]
    lines += ["", f"SHA-256 of results/manifest.json: {manifest}"]
    return "\n".join(lines) + "\n"


def _backbone_lines(alone: Mapping[str, float], merged: Mapping[str, Row]) -> list[str]:
    zero_shot, tuned, trap2 = (alone[name] for name in ("zero-shot", "fine-tuned", "trap2"))
    lines = [
        f"  used alone:    zero-shot {zero_shot:.1f}, fine-tuned {tuned:.1f}, TRAP² {trap2:.1f} "
        f"({100 * trap2 / tuned:.0f} % of fine-tuned)"
    ]
    columns = numbers(merged["trap2"])
    plain = {name: float(merged["unprotected"][name]) for name in columns}
    broken = {name: float(merged["trap2"][name]) for name in columns}
    if "TA-Full" in columns:
        lines.append(
            f"  merged by TA:  unprotected {plain['TA-Full']:.1f}, "
            f"one task protected by TRAP² {broken['TA-Full']:.1f}"
        )
    lower = sum(broken[name] < plain[name] for name in columns)
    lost = sum(1 - broken[name] / plain[name] for name in columns) / len(columns)
    lines.append(
        f"  all merges:    TRAP² is lower in {lower} of {len(columns)} columns of Table 2; "
        f"the merge loses {100 * lost:.0f} % of its accuracy on average"
    )
    return lines
