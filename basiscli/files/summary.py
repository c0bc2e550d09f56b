"""The contents of a file in short, as a plain dict and as one screen of text."""

from pathlib import Path

from basiscli.errors import printable
from basiscli.files import hdf5, networks, schema

# A screen lists so many arrays and counts the rest.
ARRAYS_SHOWN = 24


def summarise(path: str) -> dict:
    """Return the kind of a file, its attributes, and the type and shape of its arrays, without reading the arrays.

    Raises BadInput for a file that is missing, damaged or no HDF5 file.
    """
    with hdf5.reading(path) as file:
        summary = {"path": path, "kind": file.kind, "bytes": Path(path).stat().st_size}
        if file.kind == hdf5.NETWORK:
            attributes = schema.read(schema.NetworkAttributes, file)
            networks.require_history(file.datasets("history"), attributes, path)
            summary |= vars(attributes)
            summary["history"] = {name: values.tolist() for name, values in file.arrays("history").items()}
        elif file.kind == hdf5.ACTIVATIONS:
            recorded = schema.read(schema.ActivationAttributes, file)
            summary["network"], summary["dataset"] = recorded.network, recorded.dataset
        with file.checked("an array"):
            summary["arrays"] = {name: f"{array.dtype} {array.shape}" for name, array in file.datasets().items()}
    return summary


def screen(summary: dict) -> str:
    """Return a summary as text for a terminal."""
    lines = [f"{summary['path']}: {summary['kind']}, {summary['bytes'] / 1e6:.1f} MB"]
    if summary["kind"] == hdf5.NETWORK:
        lines += _network(summary)
    elif summary["kind"] == hdf5.ACTIVATIONS:
        lines.append(f"  of       {summary['network']}")
    arrays = [name for name in summary["arrays"] if not name.startswith("history/")]
    width = max((len(name) for name in arrays[:ARRAYS_SHOWN]), default=0)
    lines += [f"  {name:<{width}}  {summary['arrays'][name]}" for name in arrays[:ARRAYS_SHOWN]]
    if len(arrays) > ARRAYS_SHOWN:
        lines.append(f"  and {len(arrays) - ARRAYS_SHOWN} more arrays")
    return "".join(f"{printable(line)}\n" for line in lines)


def _network(summary: dict) -> list[str]:
    architecture = dict(summary["architecture"])
    recipe, dataset = summary["training"], summary["dataset"]
    told = {
        "model": f"{architecture.pop('model')} {_pairs(architecture)}",
        "seed": f"{summary['seed']}, {summary['status']}"
        + (f" at epoch {summary['position']['epoch']}" if summary["position"] else ""),
        "data": f"{dataset.get('name')}, SHA-256 {str(dataset.get('checksum'))[:16]}",
        "recipe": _pairs({key: value for key, value in recipe.items() if value not in (None, [], False, 0)}),
        "versions": _pairs(summary["versions"]),
        "command": summary["command"],
    }
    if summary["origin"]:
        told["made of"] = _pairs(summary["origin"])
    if imported := summary["imported"]:
        proof = imported.get("proof")
        told["imported"] = f"{imported['layout'].get('name', 'modules')}, " + (
            f"logits within {proof['largest_difference']:.1e} of PyTorch's" if proof else "unproven"
        )
        told["images"] = _pairs(imported["preprocessing"])
    last = {name: values[-1] for name, values in summary["history"].items() if values}
    if last:
        told["result"] = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in last.items())
    return [f"  {name:<8} {text}" for name, text in told.items()]


def _pairs(values: dict) -> str:
    """Return the pairs as `name=value`, with commas in lists."""
    texts = {key: ",".join(map(_text, value)) if isinstance(value, list) else value for key, value in values.items()}
    return " ".join(f"{key}={text}" for key, text in texts.items())


def _text(member: object) -> str:
    """Return a member of a list as text; of a part of a stack its op and options."""
    return "-".join(map(str, member.values())) if isinstance(member, dict) else str(member)
