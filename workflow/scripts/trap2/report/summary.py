"""A run's result in a few lines, for whoever has just made it."""

from __future__ import annotations

from collections.abc import Mapping

from trap2.report.names import protection_title
from trap2.report.shapes import Row, Rows
from trap2.report.tables.columns import numbers


def summary(
    table1: Rows,
    table2: Rows,
    lambdas: Mapping[str, Mapping[str, Mapping[str, float]]],
    places: Mapping[str, str],
    seed: int,
    manifest: str,
) -> str:
    """What Tables 1 and 2 say about each backbone, and where the artifacts are.

    Args:
        table1: rows of the standalone table.
        table2: rows of the merging table.
        lambdas: the chosen λ by backbone, trained protection and task.
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
        for protection, tasks in lambdas.get(backbone, {}).items():
            chosen = ", ".join(f"{task} {lambda_:g}" for task, lambda_ in tasks.items())
            heading = f"λ of {protection_title(protection)}:"
            lines.append(f"  {heading:<14} {chosen}")
    lines += ["", "Where it is:"]
    width = max(map(len, places))
    lines += [f"  {path:<{width}}  {what}" for path, what in places.items()]
    lines += ["", f"SHA-256 of results/manifest.json: {manifest}"]
    return "\n".join(lines) + "\n"


def _backbone_lines(alone: Mapping[str, float], merged: Mapping[str, Row]) -> list[str]:
    """What the tables say of TRAP², or of the first protection of a suite without it."""
    zero_shot, tuned = alone["zero-shot"], alone["fine-tuned"]
    lines = [f"  used alone:    zero-shot {zero_shot:.1f}, fine-tuned {tuned:.1f}"]
    others = [name for name in alone if name not in ("zero-shot", "fine-tuned")]
    if not others:
        return lines
    name = "trap2" if "trap2" in others else others[0]
    title, accuracy = protection_title(name), alone[name]
    lines[0] += f", {title} {accuracy:.1f} ({100 * accuracy / tuned:.0f} % of fine-tuned)"
    return lines + (
        _merged_lines(title, merged["unprotected"], merged[name]) if name in merged else []
    )


def _merged_lines(title: str, unprotected: Row, protected: Row) -> list[str]:
    lines = []
    columns = numbers(protected)
    plain = {name: float(unprotected[name]) for name in columns}
    broken = {name: float(protected[name]) for name in columns}
    if "TA-Full" in columns:
        lines.append(
            f"  merged by TA:  unprotected {plain['TA-Full']:.1f}, "
            f"one task protected by {title} {broken['TA-Full']:.1f}"
        )
    lower = sum(broken[name] < plain[name] for name in columns)
    lost = sum(1 - broken[name] / plain[name] for name in columns) / len(columns)
    lines.append(
        f"  all merges:    {title} is lower in {lower} of {len(columns)} columns of Table 2; "
        f"the merge loses {100 * lost:.0f} % of its accuracy on average"
    )
    return lines
