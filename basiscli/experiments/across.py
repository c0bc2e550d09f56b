"""Every layer of one network with every layer of another, of any architecture (docs/metrics.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from basiscli.analysis import assess, blocks, nulls, passes
from basiscli.analysis.assess import Assessment, CorrelationRequest
from basiscli.analysis.blocks import Member
from basiscli.analysis.checks import Unfit
from basiscli.analysis.passes import Compared, Reading
from basiscli.errors import BadInput
from basiscli.files import activations, kinds
from basiscli.files.source import Source, renamed
from basiscli.notes import log

EXCESS = "standardised_rotated_held_out_excess"
# What is computed unless it is requested otherwise.
NULLS, SIMILARITIES = ("rotated",), ("cka",)


def across_files(
    paths: Sequence[str],
    request: CorrelationRequest,
    *,
    renames: Sequence[tuple[str, str]] = (),
    positions: str | int = "all",
    memory: int | None = None,
    plot: Path | None = None,
    force: bool = False,
    **chosen,
) -> Iterator[dict]:
    """Yield a record for each layer of the first file with each layer of the second.

    chosen: the other parameters of `activations.open_all`. The null is `rotated` and the similarity CKA unless the
    request names others. Layers of several numbers of positions are compared by their means over positions. The files
    are read once, if `memory` (bytes, None: most of the free memory) holds the moments of all pairs of layers.

    Raises BadInput as `correlate_files` does; for single layers that cannot be compared at the end.
    """
    if len(paths) != 2:
        raise BadInput(f"`across` compares the layers of two files; these are {len(paths)}")
    opened = [renamed(source, renames) for source in activations.open_all(paths, **chosen)]
    if plot:
        kinds.require_target(plot, kinds.FIGURE, force, paths)
    request = replace(
        request, nulls=request.nulls or NULLS, similarities=tuple(dict.fromkeys((*SIMILARITIES, *request.similarities)))
    )
    for note in (note for source in opened for note in source.notes):
        log.warning(note)
    reading = request.reading(_positions(opened, positions), memory=memory)
    failed: list[BadInput] = []
    records = []
    width = max(units for source in opened for units in source.layers.values())
    with nulls.workers(width) as spread:
        for compared, assessment in _assessed(opened, request, reading, failed, spread):
            records.append(_record(opened, compared, assessment))
            yield records[-1]
    if plot and records:
        _draw(plot, records)
    if failed:
        raise BadInput("; ".join(map(str, failed)))


def _positions(opened: Sequence[Source], positions: str | int) -> str | int:
    """Return "mean", with a note, in place of "all" positions if layers differ in them."""
    if positions == "mean":
        return positions
    shapes = {next(iter(source.chunks([layer], 1)))[layer].shape[1:-1] for source in opened for layer in source.layers}
    if len(shapes) > 1:
        log.warning("layers differ in their positions: each is compared by its mean over positions")
        return "mean"
    return positions


def _assessed(
    opened: Sequence[Source], request: CorrelationRequest, reading: Reading, failed: list[BadInput], spread
) -> Iterator[tuple[Compared, Assessment]]:
    """Yield all pairs of layers with the same samples. Layers that are unfit go into `failed`, the others go on."""
    sides = [[passes.member(opened, k, layer) for layer in opened[k].layers] for k in (0, 1)]
    for samples in sorted({count for source in opened for count in source.samples.values()}):
        first, second = (
            [member for member in side if opened[member.source].samples[member.layer] == samples] for side in sides
        )
        done: set[tuple[str, str]] = set()
        while first and second:
            reasons: dict[str, BadInput] = {}
            whole = blocks.across(f"with {samples} samples", first, second)
            moments = passes.comparison_moments(opened, [whole], reading, reasons.setdefault)
            for compared, assessments in assess.assess_layers(moments, request, spread):
                for assessment in assessments:
                    if assessment.pair.layers not in done:
                        done.add(assessment.pair.layers)
                        yield compared, assessment
            failed += reasons.values()
            unfit: list[Member] = [reason.member for reason in reasons.values() if isinstance(reason, Unfit)]
            if not unfit:
                break
            first, second = ([member for member in side if member not in unfit] for side in (first, second))


def _record(opened: Sequence[Source], compared: Compared, assessment: Assessment) -> dict:
    scores, (layer_a, layer_b) = assessment.pair.scores, assessment.pair.layers
    return {
        "a": opened[0].path,
        "b": opened[1].path,
        "layer_a": layer_a,
        "layer_b": layer_b,
        "units_a": scores.units[0],
        "units_b": scores.units[1],
        "dead_a": scores.dead[0],
        "dead_b": scores.dead[1],
        "samples": opened[0].samples[layer_a],
        **assessment.fields,
        "positions": compared.positions,
    }


def _draw(plot: Path, records: Sequence[Mapping]) -> None:
    from basiscli.plots.across import across_figure
    from basiscli.plots.style import save

    null = EXCESS if EXCESS in records[0] else "shuffled_held_out_excess"
    save(across_figure(records, {null: "held-out matched correlation above its null", "cka": "CKA"}), plot)


def sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield for each layer of the first file the layer of the second that is most like it, in words."""
    null = EXCESS if records and EXCESS in records[0] else "shuffled_held_out_excess"
    for layer in dict.fromkeys(record["layer_a"] for record in records):
        known = [record for record in records if record["layer_a"] == layer and record[null] is not None]
        if known:
            best = max(known, key=lambda record: record[null])
            held_out, cka = best["matched_held_out"], best["cka"]
            said = f"{held_out:.2f} held out, excess {best[null]:.2f}" + (f", CKA {cka:.2f}" if cka is not None else "")
            yield f"{layer}: most like {best['layer_b']} ({said})"
