"""Write docs/format.md from the schema of the files: `python docs/make_format.py`. A test holds the two in step."""
# ruff: noqa: E501 (a row of a table is one line)

from pathlib import Path

from basiscli.files import digests, hdf5, schema

PAGE = Path(__file__).with_name("format.md")
TEXT = """# The files

Made of `basiscli/files/schema.py` by `python docs/make_format.py`; do not edit.

Every file is HDF5. One file holds one network; activations are stored in the file of their network or in separate
files, and results in separate files. Any HDF5 reader can read them.

## Reading a network in five lines

```python
import h5py, json

with h5py.File("runs/digits-mlp/seed0.h5") as file:
    architecture = json.loads(file.attrs["architecture"])  # {{"model": "mlp", "hidden": [64, 64, 64], ...}}
    w = file["weights/hidden1/w"][:]  # (inputs, units), float32
    x = file["activations/test/hidden1"][:]  # (samples, units), after the nonlinearity
```

## Storing activations of a PyTorch model for `correlate`

```python
import h5py

with h5py.File("mine.h5", "w") as file:
    model.layer3.register_forward_hook(lambda module, x, y: outputs.append(y.movedim(1, -1)))  # units last
    outputs = []
    [model(batch) for batch in loader]
    file["layer3"] = torch.cat(outputs).detach().cpu().numpy()  # (samples, ..., units)
```

Any array of numbers with two or more axes, samples first and units last, is a layer. Its path in the file is its
name. Two files are compared on the layers whose names are in both. Both networks must have seen the same inputs in
the same order.

## Every file

| attribute | holds |
| --- | --- |
| `format` | a whole number: the version of this layout, {format}; a reader refuses newer ones |
| `basiscli` | text: the version of the program that wrote it |
| `kind` | {kinds} |

Texts are UTF-8 of fixed length. JSON objects and lists are texts.

## A network file

Attributes of the file (`kind` = `network`):

{network}

The JSON object `dataset`:

{dataset}

The JSON object `position`, which a file whose training is unfinished has in full:

{position}

The JSON object `origin`, which has the options of the command as well:

{origin}

Groups:

| group | holds |
| --- | --- |
| `weights/LAYER/NAME` | float32; a dense layer has `w` (inputs, units) and `b` (units), a convolution `w` (height, width, inputs, units); a normalisation `scale` and `shift` (units) |
| `state/LAYER/NAME` | float32; BatchNorm's running `mean` and `variance` (units), dropout's `stream` (2), a fixed map's `w` (units, units) ([rotate.md](rotate.md)) |
| `optimizer/SLOT/LAYER/NAME` | float32; the optimiser's memory, only while a run is not done: `velocity` for SGD, `first` and `second` for AdamW |
| `history/NAME` | float64, one value an epoch: `train_loss`, `train_accuracy` (means over the epoch, while training), `test_loss`, `test_accuracy` |
| `activations/SPLIT/LAYER` | float32 (samples, ..., units) |

`--freeze`, `--start-weights` and `--layer` match the same names: `hidden1/w` is a weight, its path in the file, and
one of the names that `--freeze 'hidden1/*'` matches.

A split is `test`, `train`, or one of them with `-shifts`: every image in all nine shifts by at most one pixel, in
order, so that row i shows image i // 9. Attributes of an array of activations:

{array}

## Activation and result files

`basiscli record` writes `kind` = `activations`, `activations/SPLIT/LAYER` as above, and these attributes. The object
`dataset` holds the `checksum` alone.

{activations}

`basiscli correlate --out` and `basiscli match --out` write `kind` = `results` ([metrics.md](metrics.md),
[match.md](match.md)):

{results}

## Digests

HDF5 ignores what stands behind its content. There a file has its digests: for each {block:,} bytes of the content
their SHA-256 ({size} bytes each, the last block may be shorter), then `{magic}`, the number of bytes of the
content (8 bytes, little-endian), and the SHA-256 of all digests and these two. `basiscli check` compares all of them.

A program that changes a file with HDF5 drops its digests, and the file is refused from then on. Files of format
{older} have none, only HDF5's checksums of arrays; they are read, with a note.

## What is promised

- A file is written under a temporary name, `.NAME.XXXXXXXX.partial` in the same folder, written to the disk, and then
  renamed. A reader sees either the old file or the new file, even if the writer fails.
- Every byte of a file is compared with its digest before it is used. So a changed bit anywhere, in a number, a name, an
  attribute or HDF5's own structures, gives the same result as before or one line that names the file, never another
  number. `tests/files/test_damage.py` changes bytes, pages, names, types, shapes and chunks; no damage may change a
  result in silence, raise another error, or hang.
- Every attribute is checked against the tables above, every array against the architecture, the optimiser and the
  number of epochs before it is read. Nothing larger than the free memory is read, nor an array of more than
  {axes} axes.
- Activations after the nonlinearity are compressed (shuffle and LZF: they hold many zeros). Weights are not
  compressed, since float32 noise does not become smaller.
- Reading follows no links, opens no other file and unpickles nothing. External links, soft links, virtual data sets,
  external storage, and text or objects in place of numbers are refused with the name of what was found. Paths in
  attributes are shown, never written to.
- A file without digests is looked at in a child process first. One that hangs or crashes libhdf5 is refused.
"""


def page() -> str:
    """Return the text of docs/format.md."""
    tables = {
        "network": schema.NetworkAttributes,
        "dataset": schema.TrainedOn,
        "position": schema.Position,
        "origin": schema.Origin,
        "array": schema.ArrayAttributes,
        "activations": schema.ActivationAttributes,
        "results": schema.ResultAttributes,
    }
    return TEXT.format(
        format=hdf5.FORMAT,
        older=hdf5.WITHOUT_DIGESTS,
        kinds=schema.one_of(hdf5.KINDS).says,
        block=digests.BLOCK,
        size=digests.DIGEST,
        magic=digests.MAGIC.decode(),
        axes=hdf5.MOST_AXES,
        **{name: _table(cls) for name, cls in tables.items()},
    )


def _table(cls: type) -> str:
    rows = [
        f"| `{f.name}` | {f.kind.says}{'' if f.required else ' (optional)'} | {f.holds} |"
        for f in schema.described(cls)
    ]
    return "\n".join(["| name | kind | holds |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    PAGE.write_text(page())
