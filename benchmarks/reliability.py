"""Harm the whole pipeline and its datastore in every way that is known, and print what came of it as a table.

    python benchmarks/reliability.py [seed] [part ...]

Parts: kill, damage, disk, at-once, network, servers, store; all of them without a name, which takes a quarter of an
hour on two fast cores. Of the first four, one stage alone: kill:select.

After each event, the command must end with the same result as undisturbed, or with one error line and an exit code;
after a kill, the same command must then succeed. What was there before is still there, or set aside. Uses the embedded
sample, a small network, and an S3 server (moto) behind a real proxy. Exit code 1 if anything else happened.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

# There are as many events at a time as cores; several threads in each would only wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pytest

from support import trials
from support.commands import TINY, on_a_small_disk
from support.faults import FAULTS, FaultyProxy, Quirk
from support.prepared import leaves, prepare
from support.stages import BY_NAME, LONGEST_S, STAGES, Pipeline, Stage, contents, result_of
from support.stores import BucketPlace, FolderPlace, S3Process, credentials

AT_A_TIME = 2
KILLS = {"prepare": 20, "push": 20, "train": 20, "select": 20, "package": 15, "rehearse": 6, "report": 15}
INJURIES = ("one bit", "another bit", "cut", "emptied")
# The second begins while the first one runs again.
PAIRS = [("prepare", "push"), ("push", "train"), ("train", "select"), ("select", "package"), ("select", "report")]
SAME, REFUSED = "same result", "one line"
NOT_AS_WRITTEN = "is not as `package` wrote it"

Event = tuple[str, str, Callable[[Path, random.Random], str]]  # injury, stage, trial: returns the outcome


class Broken(Exception):
    """Something happened that must not."""


def outcome(
    pipeline: Pipeline, stage: Stage, folder: Path, done, before: dict[str, str], harmed: Path | None = None
) -> str:
    """Judge a command that has ended.

    Args:
        before: `contents` of the folder before it, without what the stage may change.
        harmed: the file that was damaged, which may be replaced or set aside.

    Raises:
        Broken: neither the same result nor one line, or a file was lost.
    """
    said = done.stdout + done.stderr
    if "Traceback" in done.stderr:  # in the output there may be that of a kernel, in its log
        raise Broken(f"a traceback: {said.strip().splitlines()[-1]}")
    after = contents(folder)
    lost = [path for path, digest in before.items() if after.get(path) != digest and folder / path != harmed]
    if lost := [path for path in lost if before[path] not in after.values()]:
        raise Broken(f"lost or changed: {', '.join(lost[:3])}")
    if done.returncode == 0:
        # A kernel that was edited is rehearsed as it is, and that is said: the verdict holds its hash.
        told = NOT_AS_WRITTEN in said
        compare(pipeline, stage, folder, {"reports/rehearsal.json"} if told else set())
        return REFUSED if told else SAME
    if len([line for line in done.stderr.splitlines() if line.startswith("error:")]) != 1:
        raise Broken(f"exit code {done.returncode} and not one error line: {said.strip()[-300:]}")
    return REFUSED


def compare(pipeline: Pipeline, stage: Stage, folder: Path, but: Set[str]) -> None:
    result, expected = result_of(stage, folder), pipeline.results[stage.name]
    if differ := sorted(path for path in expected if result.get(path) != expected[path] and path not in but):
        raise Broken(f"exit code 0, and another result: {', '.join(differ[:3])}")


def kills(pipeline: Pipeline) -> Iterator[Event]:
    """SIGKILL at a random moment, then the same command again."""

    def kill(stage: Stage, folder: Path, chance: random.Random) -> str:
        pipeline.copy(stage, folder, "before")
        before = contents(folder, stage.changes)
        running = pipeline.start(stage, folder)
        time.sleep(chance.uniform(0, pipeline.seconds[stage.name]))
        running.kill()
        running.communicate()
        killed = running.returncode == -9
        result = outcome(pipeline, stage, folder, pipeline.run_stage(stage, folder), before)
        if result != SAME:
            raise Broken("the same command failed after the kill")
        return SAME if killed else "ended before"

    for name, count in KILLS.items():
        for _ in range(count):
            yield "SIGKILL", name, partial(kill, BY_NAME[name])


def damages(pipeline: Pipeline) -> Iterator[Event]:
    """Damage each kind of file that a stage reads."""

    def damage(stage: Stage, pattern: str, injury: str, folder: Path, chance: random.Random) -> str:
        pipeline.copy(stage, folder)
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        return injured(stage, chance.choice(files), injury, folder, chance)

    def injured(stage: Stage, file: Path, injury: str, folder: Path, chance: random.Random) -> str:
        injure(file, injury, chance)
        before, results = contents(folder, stage.changes), result_of_or_nothing(stage, folder)
        result = outcome(pipeline, stage, folder, pipeline.run_stage(stage, folder), before, file)
        if result == REFUSED and stage.start == "after" and stage.name not in ("train again", "push again"):
            now = result_of_or_nothing(stage, folder)
            # A verdict of an earlier rehearsal is deleted on purpose.
            if changed := [path for path in results if now.get(path) != results[path] and "rehearsal" not in path]:
                raise Broken(f"refused, and yet the earlier result changed: {', '.join(changed[:3])}")
        return result

    def damage_checkpoint(injury: str, folder: Path, chance: random.Random) -> str:
        stage = BY_NAME["train"]
        pipeline.copy(stage, folder, "before")
        running, checkpoints = pipeline.start(stage, folder), []
        while running.poll() is None and not (checkpoints := list(folder.glob("runs/*/checkpoints/*.ckpt"))):
            time.sleep(0.01)
        running.kill()
        running.communicate()
        checkpoints = [path for path in checkpoints if path.exists()]
        return injured(stage, checkpoints[0], injury, folder, chance) if checkpoints else "ended before"

    for stage in STAGES:
        for kind, pattern in stage.reads.items():
            for injury in INJURIES:
                yield f"{kind} damaged", stage.name, partial(damage, stage, pattern, injury)
    for injury in INJURIES:
        yield "checkpoint damaged", "train", partial(damage_checkpoint, injury)


def injure(path: Path, injury: str, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if injury == "cut":
        content = content[: len(content) // 2]
    elif injury == "emptied":
        content.clear()
    elif content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)


def result_of_or_nothing(stage: Stage, folder: Path) -> dict[str, str]:
    """Return the result as it is; nothing where one of its files cannot be read any more."""
    try:
        return result_of(stage, folder)
    except ValueError:
        return {}


def small_disks(pipeline: Pipeline) -> Iterator[Event]:
    """Give a stage a disk that is too small for what it writes."""

    def fill(stage: Stage, share: float, folder: Path, _: random.Random) -> str:
        pipeline.copy(stage, folder, "before")
        written = sum((pipeline.kept(stage, "after") / path).stat().st_size for path in pipeline.results[stage.name])
        before = contents(folder)
        module, *arguments = stage.command
        settings = [*TINY, f"paths.raw={pipeline.raw}", *stage.small]
        flags = [each for each in arguments if "=" not in each]
        try:
            done = on_a_small_disk(
                *(module, *flags, *settings, *(each for each in arguments if "=" in each)),
                **dict(cwd=folder, kilobytes=max(8, int(share * written / 1000)), afterwards="true"),
            )
        except pytest.skip.Exception:
            return "no namespaces here"
        if done.returncode == 0:
            raise Broken("it fits")
        return outcome(pipeline, stage, folder, done, before)

    for stage in STAGES:
        for share in (0.2, 0.5, 0.8) if stage.small else ():
            yield "full disk", stage.name, partial(fill, stage, share)


def at_once(pipeline: Pipeline) -> Iterator[Event]:
    """Run two commands in one folder at the same time; afterwards each must give its result."""

    def both(first: Stage, second: Stage, folder: Path, chance: random.Random) -> str:
        pipeline.copy(second, folder, "before")
        before = contents(folder, (*first.changes, *second.changes))
        running = pipeline.start(first, folder)
        time.sleep(chance.uniform(0, pipeline.seconds[first.name] / 2) if first != second else 0)
        other = pipeline.start(second, folder)
        ended = []
        for stage, each in ((first, running), (second, other)):
            out, err = each.communicate(timeout=LONGEST_S)
            ended.append((stage, type("Done", (), {"returncode": each.returncode, "stdout": out, "stderr": err})))
        # A command that fails leaves nothing that the next one could not go on from.
        results = {outcome_alone(done) for _, done in ended}
        for stage in (first, second):
            if outcome(pipeline, stage, folder, pipeline.run_stage(stage, folder), before) != SAME:
                raise Broken(f"{stage.name} failed afterwards")
        return REFUSED if REFUSED in results else SAME

    def outcome_alone(done) -> str:
        said = done.stdout + done.stderr
        if "Traceback" in said:
            raise Broken(f"a traceback: {said.strip().splitlines()[-1]}")
        if done.returncode and len([line for line in done.stderr.splitlines() if line.startswith("error:")]) != 1:
            raise Broken(f"not one error line: {said.strip()[-300:]}")
        return REFUSED if done.returncode else SAME

    pairs = [(name, name) for name in KILLS for _ in range(2)] + [pair for pair in PAIRS for _ in range(2)]
    for first, second in pairs:
        stages = BY_NAME[first], BY_NAME[second]
        title = first if first == second else f"{first}, {second}"
        yield "two at once", title, partial(both, *stages)


def run_events(events: list[Event], root: Path, seed: int) -> list[str]:
    """Try all events, some at a time; print one row per injury and stage, and return what was broken."""

    def attempt(number: int) -> tuple[str, str]:
        injury, stage, trial = events[number]
        folder = root / f"event-{number}"
        try:
            return trial(folder, random.Random(f"{seed} {number}")), ""
        except Broken as broken:
            return "broken", f"{injury}, {stage}, event {number}: {broken}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    broken, counts, ends = [], defaultdict(Counter), Counter(event[:2] for event in events)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for (injury, stage, _), (what, how) in zip(events, pool.map(attempt, range(len(events))), strict=True):
            counts[injury, stage][what] += 1
            broken += [how] if how else []
            if counts[injury, stage].total() == ends[injury, stage]:
                told = ", ".join(f"{count} {what}" for what, count in counts[injury, stage].items())
                print(f"| {injury} | {stage} | {ends[injury, stage]} | {told} |", flush=True)
    return broken


def network(s3, row: Callable, seed: int) -> None:
    for kind in FAULTS:
        row(f"network: {kind}", "S3", 9, lambda root, kind=kind: trials.meet_faults(root, s3, kind, 3, seed))


def servers(s3, row: Callable, seed: int) -> None:
    """Let pushers meet servers that do not keep S3's promises."""
    checks = "x-amz-checksum-sha256 x-amz-sdk-checksum-algorithm"
    for title, quirk in {
        "ignores If-None-Match": Quirk(ignores="if-none-match"),
        "answers 501 to If-None-Match": Quirk(refuses="if-none-match", answer=(501, "NotImplemented")),
        "shows nothing that was written": Quirk(blind=True),
        "does not check SHA-256": Quirk(ignores=checks),
    }.items():
        row(f"a server that {title}", "S3", 4, lambda root, quirk=quirk: push_to(root, s3, quirk))


def push_to(root: Path, s3, quirk: Quirk) -> str:
    """Push four times at once to a server that lacks something: all are refused, or all get their number."""
    proxy, place = FaultyProxy(s3.url), BucketPlace(root, s3)
    reached = BucketPlace(root, s3, place.prefix, proxy.url)
    proxy.quirk = quirk
    for number in range(4):
        (root / str(number)).mkdir()
        prepare(root / str(number) / "data", leaves(100 * number, 100 * number + 20))
    running = [trials.command_line(reached, root / str(number), "push") for number in range(4)]
    ended = [each.communicate() for each in running]
    proxy.close()
    ledger = trials.Ledger(place)
    ledger.check()
    done = sum(each.returncode == 0 for each in running)
    assert all("Traceback" not in err for _, err in ended) and len(ledger.versions) == done in (0, 4), ended
    return f"{done} {SAME}, {4 - done} {REFUSED}"


def stores(s3, row: Callable, seed: int) -> None:
    for name, place in {"folder": FolderPlace, "S3": lambda root: BucketPlace(root, s3)}.items():
        row("8 processes push at once", name, 8, lambda root, at=place: trials.push_at_once(at(root), root, 8))
        row("push, rm and gc at once", name, 1, lambda root, at=place: trials.storm(at(root), root, 20, seed))
        # After each trial, all objects are read directly from the store, which takes time over HTTP.
        many = {"folder": 400, "S3": 160}[name]
        row("SIGKILL of push", name, 15, lambda root, at=place, n=many: trials.kill_pushes(at(root), root, 15, seed, n))
        row("SIGKILL of pull", name, 15, lambda root, at=place: trials.kill_pulls(at(root), root, 15, seed))


EVENTS = {"kill": kills, "damage": damages, "disk": small_disks, "at-once": at_once}
TRIALS = {"network": network, "servers": servers, "store": stores}


def main(seed: int, parts: list[str]) -> None:
    os.environ |= credentials()
    broken, total, started = [], 0, time.monotonic()
    print(f"seed {seed}\n\n| what was done | to | events | outcome |\n|---|---|---|---|", flush=True)

    def row(trial: str, store: str, count: int, run: Callable[[Path], str]) -> None:
        nonlocal total
        total += count
        with tempfile.TemporaryDirectory() as root:
            try:
                told = run(Path(root))
            except AssertionError as error:
                told = "broken"
                broken.append(f"{trial}, {store}: {error}")
        print(f"| {trial} | {store} | {count} | {told} |", flush=True)

    with tempfile.TemporaryDirectory() as root:
        pipeline, events = Pipeline(Path(root)), []
        for part, _, stage in (each.partition(":") for each in parts):
            if part in EVENTS:
                events += [event for event in EVENTS[part](pipeline) if stage in ("", event[1])]
        if events:
            needed = [BY_NAME[name] for _, title, _ in events for name in title.split(", ")]
            pipeline.run_undisturbed(max(needed, key=STAGES.index))
            total += len(events)
            broken += run_events(events, Path(root), seed)
    if wanted := [TRIALS[part] for part in parts if part in TRIALS]:
        s3 = S3Process()
        try:
            for trial in wanted:
                trial(s3, row, seed)
        finally:
            s3.close()
    print(f"\n{total} events in {(time.monotonic() - started) / 60:.0f} minutes, {len(broken)} broken", flush=True)
    sys.exit("\n".join(broken) or None)


if __name__ == "__main__":
    given = [each for each in sys.argv[1:] if not each.isdigit()]
    seeds = [int(each) for each in sys.argv[1:] if each.isdigit()]
    if unknown := {each.partition(":")[0] for each in given} - EVENTS.keys() - TRIALS.keys():
        sys.exit(f"error: {', '.join(unknown)}: choose among {', '.join([*EVENTS, *TRIALS])}")
    main(seeds[0] if seeds else 2021, given or [*EVENTS, *TRIALS])
