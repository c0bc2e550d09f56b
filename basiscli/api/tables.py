"""Tables of results: text in a terminal, HTML in a notebook."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from basiscli.errors import printable
from basiscli.names import in_html


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of a result: printed as text, shown as a table in a notebook.

    It is a sequence of mappings from column to value, so `list(table)` gives the rows and `pandas.DataFrame(table)` a
    data frame. A value that is undefined is None.

    >>> import basiscli
    >>> table = basiscli.Table(({"layer": "hidden1", "matched": 0.71}, {"layer": "hidden2", "matched": None}))
    >>> table
    layer    matched
    hidden1    0.710
    hidden2        -
    >>> table[0]["matched"], len(table)
    (0.71, 2)
    """

    rows: tuple[Mapping[str, object], ...]

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Mapping[str, object]:
        return self.rows[number]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def __repr__(self) -> str:
        cells = {name: [name, *(cell(row.get(name)) for row in self.rows)] for name in self.columns}
        columns = [self._aligned(name, texts) for name, texts in cells.items()]
        return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))

    def _repr_html_(self) -> str:
        def line(tag: str, texts: Mapping[str, str]) -> str:
            sides = {name: "right" if self._numeric(name) else "left" for name in texts}
            return "".join(
                f'<{tag} style="text-align: {sides[name]}">{in_html(text)}</{tag}>' for name, text in texts.items()
            )

        head = line("th", {name: name for name in self.columns})
        body = "".join(
            f"<tr>{line('td', {name: cell(row.get(name)) for name in self.columns})}</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _numeric(self, name: str) -> bool:
        return all(isinstance(row.get(name), int | float | None) for row in self.rows)

    def _aligned(self, name: str, texts: list[str]) -> list[str]:
        width = max(map(len, texts))
        return [text.rjust(width) if self._numeric(name) else text.ljust(width) for text in texts]


def cell(value: object) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))
