"""Draw a recording of a terminal as an SVG that plays by itself: CSS alone, no script, no font from the internet.

    script --log-out run.out --log-timing run.time --command "make repro"     # in a terminal of 100 columns, 30 rows
    pip install pyte
    python docs/pictures/recording.py run.out run.time docs/pictures/repro.svg "make repro"

Install first (`make repro` does), so that the recording begins with the pipeline. Every frame is a screen as it was. A
pause of the run counts as PAUSE seconds at most; then all is sped up to LENGTH seconds, and a frame lasts at least STEP
of them. Whoever prefers reduced motion sees the last screen.
"""

import html
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pyte

COLUMNS, ROWS = 100, 30
PAUSE, LENGTH, STEP, END = 2.0, 40.0, 0.5, 6.0  # seconds; the last frame stays for END
WIDTH, HEIGHT, MARGIN = 8.4, 17, 14  # of a character and around the screen, in pixels
COLORS = {"red": "#ff7b72", "green": "#3fb950", "brown": "#d29922", "blue": "#58a6ff", "magenta": "#bc8cff"}
COLORS |= {"cyan": "#39c5cf", "default": "#e6edf3"}
Line = tuple[tuple[str, str, bool], ...]  # runs of characters: text, color, bold


def frames(output: bytes, timing: str, command: str) -> Iterator[tuple[float, tuple[Line, ...]]]:
    """Yield each screen with the second at which it appears.

    Args:
        output: what `script --log-out` wrote.
        timing: what `script --log-timing` wrote: seconds since the last output, and its number of bytes, per line.
        command: shown as typed on the first line.
    """
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {command}\r\n".encode())
    at = output.index(b"\n") + 1 if output.startswith(b"Script started") else 0
    parts = [(min(float(pause), PAUSE), int(size)) for pause, size in (line.split() for line in timing.splitlines())]
    speed = max(1.0, sum(pause for pause, _ in parts) / LENGTH)
    now = shown = 0.0
    yield now, lines(screen)
    for pause, size in parts:
        now += pause / speed
        if now >= shown + STEP:
            yield now, lines(screen)
            shown = now
        stream.feed(output[at : at + size])
        at += size
    yield max(now, shown + STEP), lines(screen)


def lines(screen: pyte.Screen) -> tuple[Line, ...]:
    """Return the screen's lines, without blanks at their ends."""
    found = []
    for row in range(ROWS):
        characters = [screen.buffer[row][column] for column in range(COLUMNS)]
        while characters and not characters[-1].data.strip():
            characters.pop()
        runs = itertools.groupby(characters, key=lambda each: (each.fg, each.bold))
        found.append(tuple(("".join(each.data for each in run), color, bold) for (color, bold), run in runs))
    return tuple(found)


def draw(shown: list[tuple[float, tuple[Line, ...]]]) -> str:
    """Return the SVG: every screen below the one before on a strip, which moves by one screen at a time."""
    screens = [shown[0], *(later for before, later in itertools.pairwise(shown) if later[1] != before[1])]
    end = screens[-1][0] + END
    width, height = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    names: dict[Line, str] = {}
    strip = []
    for number, (_, screen) in enumerate(screens):
        for row, line in enumerate(screen):
            if line:
                name = names.setdefault(line, f"l{len(names)}")
                strip.append(f'<use href="#{name}" y="{number * height + MARGIN + (row + 0.8) * HEIGHT:g}"/>')
    steps = "".join(
        f"{100 * second / end:.2f}%{{transform:translateY(-{number * height:g}px)}}"
        for number, (second, _) in enumerate(screens)
    )
    last = f"translateY(-{(len(screens) - 1) * height:g}px)"
    style = (
        f"text{{font:14px ui-monospace,SFMono-Regular,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}}"
        f".s{{transform:{last};animation:play {end:.1f}s step-end infinite}}@keyframes play{{{steps}}}"
        "@media(prefers-reduced-motion:reduce){.s{animation:none}}.b{font-weight:700}"
        + "".join(f".{name}{{fill:{color}}}" for name, color in COLORS.items())
    )
    defined = "".join(f'<text id="{name}" x="{MARGIN}">{spans(line)}</text>' for line, name in names.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
        f"<title>Recording of a terminal</title><style>{style}</style><defs>{defined}</defs>"
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#0d1117"/>'
        f'<g class="s">{"".join(strip)}</g></svg>\n'
    )


def spans(line: Line) -> str:
    """Return a line's runs as tspans; each begins at its own column, whatever the font's width is."""
    columns = itertools.accumulate((len(text) for text, _, _ in line), initial=0)
    return "".join(
        f'<tspan x="{MARGIN + column * WIDTH:g}" textLength="{len(text) * WIDTH:g}" class="'
        f'{color if color in COLORS else "default"}{" b" if bold else ""}">{html.escape(text)}</tspan>'
        for column, (text, color, bold) in zip(columns, line, strict=False)
    )


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    output, timing, path, command = sys.argv[1:]
    shown = list(frames(Path(output).read_bytes(), Path(timing).read_text(encoding="utf-8"), command))
    Path(path).write_text(draw(shown), encoding="utf-8")


if __name__ == "__main__":
    main()
