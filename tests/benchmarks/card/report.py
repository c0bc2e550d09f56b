"""The short table of what was measured on a card, from the records of all parts."""

import json
from collections import defaultdict
from pathlib import Path


def read(path: Path) -> list[dict]:
    """Return the records that there are; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def report(records: list[dict]) -> list[str]:
    """Return the lines of the table."""
    by_part = defaultdict(list)
    for record in records:
        by_part[record["part"]].append(record)
    lines = ["# " + _card(by_part["look"]), ""]
    lines += ["| part | seconds | ended |", "| --- | --- | --- |"]
    lines += [f"| {r['name']} | {r['seconds']:.0f} | {r['ended']} |" for r in by_part["parts"]]
    lines += [
        "",
        *_kernels(by_part["selftest"]),
        *_ceilings(by_part["ceilings"]),
        *_training(by_part),
        *_layers(by_part),
    ]
    for record in by_part["moments"]:
        lines.append(f"Moments: {_number(record.get('gflop_s'))} GFLOP/s {record.get('failed', '')}")
    for record in by_part["profile"]:
        times = f"wall {_number(record.get('wall_ms'))} ms, kernels {_number(record.get('kernels_ms'))} ms"
        lines.append(f"Profile: {times}, {record.get('steps', '')} steps {record.get('failed', '')}")
    return lines


def _card(records: list[dict]) -> str:
    card = next((r for r in records if "card" in r), None)
    if card is None:
        return "No card: " + "; ".join(r.get("failed", "") for r in records)
    return (f"{card['card']}, capability {card['capability']}, {card['total_gb']:.0f} GB, driver {card['driver']}, "
            f"CUDA {card['runtime']}, cupy {card['cupy']}")  # fmt: skip


def _kernels(records: list[dict]) -> list[str]:
    compared = [r for r in records if "kernel" in r]
    wrong = [f"{r['kernel']} ({r['precision']}: {r.get('failed') or format(r['error'], '.1e')})"
             for r in compared if not r["ok"]]  # fmt: skip
    return [f"Kernels compared: {len(compared)}; wrong: {', '.join(wrong) or 'none'}", ""]


def _ceilings(records: list[dict]) -> list[str]:
    return [f"Ceiling, {r['precision']}: copy {_number(r.get('copy_gb_s'))} GB/s, product "
            f"{_number(r.get('product_tflop_s'))} TFLOP/s {r.get('failed', '')}" for r in records]  # fmt: skip


def _training(by_part: dict) -> list[str]:
    """Milliseconds of a step: ours for all seeds, PyTorch's for one network; the ratio is by images a second."""
    ours = {(r["task"], r["precision"]): r for r in by_part["training"]}
    peers = defaultdict(dict)
    for r in by_part["pytorch"]:
        peers[r["task"], r["precision"]][r["way"]] = r
    if not ours and not peers:
        return []
    heads = (
        "ms a step",
        "ours, all seeds",
        "images/s",
        "TFLOP/s",
        "GB/s",
        "PyTorch eager",
        "graph",
        "compiled",
        "ratio",
    )
    lines = ["", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for key in {**ours, **peers}:
        mine, theirs = ours.get(key, {}), peers.get(key, {})
        best = max((r["images_s"] for r in theirs.values() if "images_s" in r), default=None)
        ratio = mine["images_s"] / best if best and "images_s" in mine else None
        ways = (_number(theirs.get(way, {}).get("ms")) for way in ("eager", "graph", "compile"))
        own = (_number(mine.get(name)) for name in ("ms", "images_s", "tflop_s", "gb_s"))
        cells = (*own, *ways, f"{_number(ratio)} of {_number(mine.get('wanted'))}")
        lines.append(f"| {key[0]}, {key[1]} | {' | '.join(cells)} |")
    return [*lines, "", *(f"Failed: {r['failed']}" for r in by_part["training"] + by_part["pytorch"] if "failed" in r)]


def _layers(by_part: dict) -> list[str]:
    """The layers that take most of each task, and their sum beside the step."""
    steps = {r["task"]: r.get("ms") for r in by_part["training"] if r.get("precision") == "tf32"}
    by_task = defaultdict(list)
    for record in by_part["layers"]:
        by_task[record["task"]].append(record | {"total": _total(record)})
    lines = []
    for task, rows in by_task.items():
        whole = sum(row["total"] for row in rows)
        lines += ["", f"{task}: layers add up to {whole:.3f} ms of a step of {_number(steps.get(task))} ms"]
        for row in sorted(rows, key=lambda row: -row["total"])[:6]:
            fields = {k: v for k, v in row.items() if k.endswith(("_ms", "_s", "failed"))}
            lines.append(f"- {row['total']:.3f} ms: {row.get('uses', '')} of {row['layer']} {row.get('inputs', '')} "
                         + ", ".join(f"{k} {_number(v)}" for k, v in fields.items()))  # fmt: skip
    return lines


def _total(record: dict) -> float:
    if record["layer"] == "rest":
        return sum(v for k, v in record.items() if k.endswith("_ms"))
    return record["uses"] * (record.get("forward_ms", 0) + record.get("backward_ms", 0))


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-" if value is None else str(value)
