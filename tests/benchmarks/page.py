"""The tables in docs/benchmarks.md that scripts write, each between two marks."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def write(name: str, lines: list[str]) -> None:
    """Put the lines of a table in the place of what stands between `<!-- name -->` and `<!-- end of name -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = PAGE.read_text().split(begin)
    after = rest[rest.index(end) :]
    PAGE.write_text(before + begin + "\n".join(lines) + "\n" + after)
