"""Whatever the documentation names exists: files, headings, commands, make targets and config keys."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from plant_pathology.core.keys import keys_of
from plant_pathology.core.schema import MORE, REFUSED
from plant_pathology.core.stages import read_stages
from support import fault_table
from support.commands import PROJECT

PACKAGE = PROJECT / "src" / "plant_pathology"
PAGES = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FOLDERS = ("src/", "conf/", "tests/", "docs/", "benchmarks/", "notebooks/", ".ci/")
ROOMS = tuple(f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py"))
# Named like rooms or sources, but written by the pipeline, or the example of the guide.
OUTPUTS = re.compile(
    r"(conf/competition/flowers\.yaml|data/(raw|prepared|decoded)|runs/(?!\w+\.py)|store/$|reports/|index\.html|submission\.py).*"
)
REPLACED = {"plant_pathology.sweep", "package.gpu"}  # in the changelog


def code() -> Iterator[tuple[str, str]]:
    """Yield every line of code and every inline code span of all pages, each with its place."""
    for page in PAGES:
        # The tables of faults are full of wrong keys and paths: `fault_table` writes them.
        text, _, end = page.read_text(encoding="utf-8").partition(fault_table.BEGIN)
        text += end.partition(fault_table.END)[2]
        for found in re.finditer(r"^```.*?^```|^    .*?$|`([^`]+)`", text, re.MULTILINE | re.DOTALL):
            place = f"{page.relative_to(PROJECT)}:{text.count(chr(10), 0, found.start()) + 1}"
            for line in [" ".join(found[1].split())] if found[1] else found[0].splitlines():
                yield place, line


def exists(path: str) -> bool:
    """Whether a path, which may be a pattern, is there below the repository or below the package."""
    return any(next(folder.glob(path.rstrip("/")), None) for folder in (PROJECT, PACKAGE))


def test_backticks_are_paired_so_that_all_names_are_found():
    blocks = [(page, block) for page in PAGES for block in re.split(r"\n\n|\n(?=\|)", page.read_text(encoding="utf-8"))]
    assert not [f"{page.name}: {block[:60]}" for page, block in blocks if block.replace("```", "").count("`") % 2]
    assert len(list(code())) > 500


def test_every_file_in_backticks_exists():
    missing = []
    for place, text in code():
        path = text.split(":")[0]
        source = re.fullmatch(r"[\w./*-]+\.(py|ipynb|html)|dvc\.yaml|Makefile|pyproject\.toml", path)
        if re.search(r"[\s<>…=]", text) or OUTPUTS.fullmatch(path) or not (source or path.startswith(FOLDERS + ROOMS)):
            continue
        if not exists(path):
            missing.append(f"{place}: {path}")
    assert not missing


def test_the_tables_of_faults_are_those_that_the_tests_try():
    text = fault_table.PAGE.read_text(encoding="utf-8")
    assert text == fault_table.page(text), "python tests/support/fault_table.py writes them again"
    text = fault_table.MISTAKES.read_text(encoding="utf-8")
    assert text == fault_table.mistakes_page(text), "python tests/support/fault_table.py writes them again"
    assert len([line for line in text.splitlines() if line.count(" | ") == 2 and line.startswith("| ")]) > 40


def test_the_map_names_every_room():
    """A file that it names and that does not exist fails above."""
    page = (PROJECT / "docs" / "map.md").read_text(encoding="utf-8")
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/**/*.py")}
    assert {room for room in rooms if f"`{room}/" not in page} == set()


def test_the_picture_of_the_flow_shows_every_stage_in_order_with_the_rooms_that_it_depends_on():
    page = (PROJECT / "docs" / "map.md").read_text(encoding="utf-8")
    arrows = re.findall(r'-- "([^"<]+)<br>rooms? ([^"]+)" -->', page)
    stages = read_stages()
    assert [command for command, _ in arrows] == [
        *(stage.typed.removeprefix(f"python -m {PACKAGE.name}.") for stage in stages),
        "submit",
    ]
    for (_, rooms), stage in zip(arrows, stages, strict=False):
        assert {PACKAGE.relative_to(PROJECT) / room for room in rooms.split(", ")} <= set(stage.reads), stage.name


def test_every_link_leads_to_a_page_and_a_heading():
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            file, _, heading = target.partition("#")
            linked = page.parent / file if file else page
            if not linked.exists() or heading and heading not in anchors(linked):
                missing.append(f"{page.relative_to(PROJECT)}: {target}")
    assert not missing


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_and_its_verbs_exist():
    missing = []
    for place, text in code():
        for module, verbs in re.findall(r"python -m (plant_pathology\.\w+)(?: ([a-z|]+)(?![\w=./]))?", text):
            source = PACKAGE / f"{module.split('.')[1]}.py"
            known = source.read_text(encoding="utf-8") if source.exists() else ""
            several = "VERBS" in known
            if module in REPLACED:
                continue
            if not known or several and any(not re.search(rf"^  {verb} ", known, re.M) for verb in verbs.split("|")):
                missing.append(f"{place}: {module} {verbs}")
    assert not missing


def test_every_script_and_make_target_exists():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    missing = [
        f"{place}: {name}"
        for place, text in code()
        for script, target in re.findall(r"\bpython (\w+/\w+\.py)|\bmake ([a-z][a-z-]*)", text)
        if not (exists(name := script or target) if script else re.search(rf"^{(name := target)}:", makefile, re.M))
    ]
    assert not missing


def test_every_config_key_exists():
    keys = config_keys()
    sections = {key.split(".")[0] for key in keys if "." in key} - {"hydra"}
    files = re.compile(r".*\.(py|csv|json|txt|md|yaml|toml|lock|ckpt|log|db|svg|png|npy|sqlite|html|ipynb)")
    missing = [
        f"{place}: {key}"
        for place, text in code()
        for key in re.findall(r"(?<![\w./-])([a-z_]+(?:\.[a-z_]+)+)(?![\w/(*-])", text)
        if key.split(".")[0] in sections
        and not {key, f"competition.{key}"} & keys  # errors in a competition's file name its keys so, too
        and not files.fullmatch(key)
        and key not in REPLACED
    ]
    assert not missing


def config_keys() -> set[str]:
    """Every dotted key of conf/ with all its sections, and those that are passed on to Lightning, or refused."""
    found = {key.name for name, schema in MORE.items() for key in keys_of(schema, f"{name}.")} | REFUSED.keys()

    def walk(node: object, prefix: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                found.add(f"{prefix}{name}")
                walk(value, f"{prefix}{name}.")

    for file in (PROJECT / "conf").rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        group = ".".join(file.parent.relative_to(PROJECT / "conf").parts)
        walk(yaml.safe_load(text), f"{group}." if group and "@package _global_" not in text else "")
    return found


def test_notebooks_have_no_outputs_and_the_pages_name_them():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), notebook
        assert f"notebooks/{notebook.name}" in pages
