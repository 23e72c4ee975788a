"""The figures of `experience.py` as Markdown."""

from __future__ import annotations

from typing import Any

_TITLES = {
    "spatial": "placement alone",
    "visual": "+ visual",
    "physical": "+ physical, provoked failures",
    "diverse": "+ reachability-aware",
}


def table(result: dict[str, Any], count: int) -> str:
    """One row for each stage of expansion, one column for each task, and what must be zero."""
    names = list(result["expert_success"])
    lines = [f"| expert success of up to {count} seeds each | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for stage in result["stages"]:
        played = stage["episodes_by_task"]
        cells = ["–" if rate is None else f"{100 * rate:.1f}% of {played[name]}" for name, rate in stage["success"].items()]
        lines.append(f"| {_TITLES[stage['stage']]} | " + " | ".join(cells) + " |")
    rates = result["stages"][0]["scenes_per_s"]
    lines.append("| scenes/s a core | " + " | ".join(f"{rates[name]:.0f}" for name in names) + " |")
    if result["coverage_by_task"]:
        cells = [str(result["coverage_by_task"].get(name, "–")) for name in names]
        lines.append("| coverage, diverse ÷ uniform | " + " | ".join(cells) + " |")
    lines += ["", "| | |", "|---|---|"]
    for title, key in (
        ("failed attempts turned into successes", "recovery_rate"),
        ("failed attempts seen", "failed_attempts"),
        ("replays whose final state differs", "replay_mismatches"),
        ("replays whose verdict differs", "label_mismatches"),
        ("replays", "replays"),
        ("cheats that a grader passed", "grader_cheats_passed"),
        ("cheats tried", "grader_cheats_tried"),
        ("trajectories with penetration over 2 mm for 0.1 s", "penetrations"),
        ("trajectories beyond a joint limit", "range_violations"),
        ("trajectories beyond the commanded speed limit", "speed_violations"),
        ("share of the reachable set covered, diverse ÷ uniform, mean of tasks", "coverage_over_uniform"),
        ("mean distance to the nearest scene, uniform ÷ diverse, mean of tasks", "nearer_than_uniform"),
    ):
        lines.append(f"| {title} | {result[key]} |")
    if result["coverage"]:
        lines += [
            "",
            "| scenes | covered, diverse ÷ uniform | nearer, uniform ÷ diverse | scenes/s, uniform · diverse |",
            "|---" * 4 + "|",
        ]
    for row in result["coverage"]:
        (low, high), (least, most), (plain, chosen) = row["coverage_spread"], row["distance_spread"], row["scenes_per_s"]
        cells = [f"{row['task']}, {row['count']}", f"{row['coverage']} ({low}–{high})", f"{row['distance']} ({least}–{most})"]
        lines.append("| " + " | ".join([*cells, f"{plain} · {chosen}"]) + " |")
    if result["recovery_by_kind"]:
        lines += ["", "| first attempt failed by | episodes | ended in success |", "|---|---|---|"]
        lines += [f"| {kind} | {row['failed']} | {100 * row['rate']:.0f}% |" for kind, row in result["recovery_by_kind"].items()]
    failures = [(row["task"], row["stage"], row.get("error"), row["reasons"]) for row in result["rows"]]
    listed = [f"- {task}, {stage}: {error or reasons}" for task, stage, error, reasons in failures if error or reasons]
    return "\n".join([*lines, "", "What failed, and why:", "", *(listed or ["- nothing"]), ""])
