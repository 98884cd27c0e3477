"""Change the raw files of the embedded sample, as faults do; each function returns what `Fault.make` calls."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

Make = Callable[[Path], object]


def raw_of(folder: Path) -> Path:
    return folder / "data/raw/sample"


def train_images(folder: Path) -> list[Path]:
    """Return the training images that are there once, sorted."""
    contents = {path: path.read_bytes() for path in sorted((raw_of(folder) / "train_images").iterdir())}
    often = Counter(contents.values())
    return [path for path, content in contents.items() if often[content] == 1]


def rewritten(name: str, change: Callable[[str], str], encoding: str = "utf-8") -> Make:
    """Change the text of a file."""

    def make(folder: Path) -> None:
        path = raw_of(folder) / name
        path.write_bytes(change(path.read_text(encoding="utf-8")).encode(encoding))

    return make


def with_rows(name: str, change: Callable[[int, list[str]], list[str]], encoding: str = "utf-8") -> Make:
    """Change the cells of each row of a table, counted from 1, but not the header."""

    def rows(text: str) -> Iterator[str]:
        header, *lines = text.splitlines()
        yield header
        for number, line in enumerate(lines, start=1):
            yield ",".join(change(number, line.split(",")))

    return rewritten(name, lambda text: "\n".join(rows(text)) + "\n", encoding)


def written(name: str, content: str | bytes) -> Make:
    """Write a file anew."""
    data = content if isinstance(content, bytes) else content.encode()

    def make(folder: Path) -> None:
        (raw_of(folder) / name).write_bytes(data)

    return make


def image_written(write: Callable[[Path], object], count: int = 1) -> Make:
    """Write the first `count` training images anew, by a function that gets the path."""

    def make(folder: Path) -> None:
        for path in train_images(folder)[:count]:
            path.unlink()
            write(path)

    return make


def own_code(text: str) -> Make:
    """Write competitions/sample.py."""

    def make(folder: Path) -> None:
        (folder / "competitions").mkdir()
        (folder / "competitions/sample.py").write_text(text, encoding="utf-8")

    return make
