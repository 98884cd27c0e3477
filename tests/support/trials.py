"""Try the datastore's promises: let something fail at a moment that a seed chooses, then check the whole store.

Each trial returns one line for the table of docs/reliability.md, or fails at the first broken promise. The tests run a
few of each; `python benchmarks/reliability.py` runs them all.
"""

import hashlib
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

from plant_pathology.core.errors import BusyError, UserError
from plant_pathology.core.hashes import unsealed
from plant_pathology.store import claims
from plant_pathology.store.garbage import gc, rm
from support.commands import start_module
from support.faults import Faults, FaultyProxy
from support.preloaded import Command
from support.prepared import leaves, prepare
from support.stores import BucketPlace

MANY = dict(encoding="raw", shard_rows=8, shard_mb=0.025)  # many shards, so that a push takes a while


class Ledger:
    """Record which versions a store has promised to keep, and compare them with what it holds."""

    def __init__(self, place):
        self.place, self.versions = place, {}

    def check(self) -> None:
        """Check the stored bytes: no version is lost or changed, and every visible object is complete."""
        objects = self.place.raw("objects")
        for key, content in objects.items():
            assert key == f"objects/{hashlib.sha256(content).hexdigest()}", f"{key} holds other bytes"
        visible = {}
        for key, content in self.place.raw("versions").items():
            manifest = unsealed(content)
            assert key == f"versions/{manifest['name']}/{manifest['version']}.json"
            if "removed" not in manifest:
                visible[f"{manifest['name']}:{manifest['version']}"] = manifest["sha256"]
                for file, entry in manifest["files"].items():
                    assert len(objects[f"objects/{entry['sha256']}"]) == entry["size"], f"{file} is incomplete"
            else:
                self.versions.pop(f"{manifest['name']}:{manifest['version']}", None)
        assert visible.items() >= self.versions.items(), "a version was lost, or its number used twice"
        self.versions = visible

    def check_after_gc(self) -> None:
        """Run gc and `check`, and check that nothing is left of commands that failed."""
        with patch.dict(claims.LIFETIME_S, {"push": -1.0}):
            gc(self.place.store())
        self.check()
        used = {entry["sha256"] for version in self.place.store().versions() for entry in version.files.values()}
        assert {key.removeprefix("objects/") for key in self.place.raw("objects")} == used
        assert not self.place.raw("incoming") and not self.place.raw("claims")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verify(version) -> None:
    if damage := version.find_damage():
        raise UserError("; ".join(damage))


def command_line(place, root: Path, verb: str, *overrides: str) -> subprocess.Popen | Command:
    paths = [f"paths.prepared={root}/data", f"paths.pointer={root}/datastore.json"]
    arguments = [verb, *place.overrides, *overrides, *paths]
    return start_module("datastore", *arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def completed(running: subprocess.Popen | Command, started: Callable[[], bool]) -> float:
    """Wait for a command to succeed; return the seconds that it took after `started` became true."""
    wait(running, started)
    start = time.monotonic()
    out, err = running.communicate()
    assert running.returncode == 0, err
    return time.monotonic() - start


def killed(running: subprocess.Popen | Command, started: Callable[[], bool], after: float) -> bool:
    """Send SIGKILL `after` seconds after `started` became true; return whether the command was still running."""
    wait(running, started)
    time.sleep(after)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    return running.returncode == -signal.SIGKILL


def wait(running: subprocess.Popen | Command, started: Callable[[], bool]) -> None:
    while running.poll() is None and not started():
        time.sleep(0.002)


def kill_pushes(place, root: Path, count: int, seed: int, images: int = 400) -> str:
    """Kill a push at a random moment after its first write, then push again; repeat `count` times."""
    chance, ledger = random.Random(seed), Ledger(place)

    def claimed(more_than: int = 0) -> bool:
        return len(place.store().backend.keys("claims")) > more_than

    prepare(root / "data", leaves(0, images), **MANY)
    duration = completed(command_line(place, root, "push"), claimed)
    cut = midway = 0
    for number in range(1, count + 1):
        (root / "data").rename(root / f"data-{number}")
        prepare(root / "data", leaves(1000 * number, 1000 * number + images), **MANY)
        before, dead = len(place.raw("objects")), len(place.store().backend.keys("claims"))
        running = command_line(place, root, "push")
        cut += killed(running, partial(claimed, dead), chance.uniform(0, duration))
        ledger.check()
        midway += f"plant-pathology:{number + 1}" not in ledger.versions and len(place.raw("objects")) > before
        version, _ = place.store().push("plant-pathology", root / "data")
        assert version.ref == f"plant-pathology:{number + 1}" and version.find_damage() == []
    ledger.check()
    ledger.check_after_gc()
    return f"{cut} cut, {midway} of them between two objects; every push again took the next number"


def kill_pulls(place, root: Path, count: int, seed: int, images: int = 2000) -> str:
    """Kill a pull at a random moment after its first file, then pull again; repeat `count` times."""
    chance, ledger = random.Random(seed), Ledger(place)
    prepare(root / "data", leaves(0, images), **MANY)
    expected = contents(root / "data")
    version, _ = place.store().push("leaves", root / "data")

    def pull(name):
        running = command_line(place, root, "pull", f"data.ref={version.ref}", f"store.into={root / name}")
        return running, lambda: any(root.glob(f".{name}-*"))

    duration = completed(*pull("first"))
    cut = midway = 0
    for number in range(count):
        copy = root / f"copy-{number}"
        running, begun = pull(copy.name)
        cut += killed(running, begun, chance.uniform(0, duration))
        midway += any(root.glob(f".{copy.name}-*/*"))
        if not copy.exists():
            version.pull(copy)
        assert contents(copy) == expected, "a pulled folder is incomplete"
    ledger.check()
    return f"{cut} cut, {midway} of them between two files; no folder stood that was not whole"


def meet_faults(root: Path, s3, kind: str, rounds: int, seed: int, images: int = 60, rate: float = 0.25) -> str:
    """Push, pull and verify through a network with faults of one kind."""
    direct, proxy = BucketPlace(root, s3), FaultyProxy(s3.url)
    faulty = BucketPlace(root, s3, direct.prefix, proxy.url, timeout_s=0.5)
    ledger, done, refused, met = Ledger(direct), 0, 0, 0
    for number in range(rounds):
        folder, copy = root / f"data-{number}", root / f"copy-{number}"
        prepare(folder, leaves(1000 * number, 1000 * number + images), **MANY)
        proxy.faults = Faults(kind, rate / 3 if kind == "expired" else rate, seed + number)
        for act in (
            lambda folder=folder: faulty.store().push("leaves", folder),
            lambda copy=copy: faulty.store().resolve("leaves").pull(copy),
            lambda: verify(faulty.store().resolve("leaves")),
        ):
            try:
                act()
                done += 1
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
            ledger.check()
        met += proxy.faults.met[kind]
        proxy.faults = None
        version, _ = faulty.store().push("leaves", folder)
        assert version.ref == f"leaves:{number + 1}" and version.find_damage() == []
        if not copy.exists():
            version.pull(copy)
        assert contents(copy).keys() == version.files.keys()
        assert all(hashlib.sha256(contents(copy)[f]).hexdigest() == e["sha256"] for f, e in version.files.items())
        ledger.check()
    proxy.close()
    ledger.check_after_gc()
    assert met, f"no request met {kind}"
    return f"{met} requests met it; {done} commands succeeded, {refused} ended in one line; nothing lost"


def push_at_once(place, root: Path, pushers: int) -> str:
    """Push from several processes at the same time, two of them with the same content."""
    ledger = Ledger(place)
    for number in range(pushers):
        (root / str(number)).mkdir()
        start = 100 * max(number, 1)
        prepare(root / str(number) / "data", leaves(start, start + 60), **MANY)
    running = [command_line(place, root / str(number), "push") for number in range(pushers)]
    said = [process.communicate() for process in running]
    assert all(process.returncode == 0 for process in running), said
    assert sum(", new, " in out for out, _ in said) == pushers - 1
    ledger.check()
    assert sorted(ledger.versions) == sorted(f"plant-pathology:{number}" for number in range(1, pushers))
    ledger.check_after_gc()
    return f"{pushers - 1} versions of {pushers - 1} contents, {pushers} pointers to them"


def storm(place, root: Path, seconds: float, seed: int) -> str:
    """Push contents that share shards, remove versions and run gc, all at the same time."""
    chance, ledger, end = random.Random(seed), Ledger(place), time.monotonic() + seconds
    folders = [prepare(root / str(number), leaves(0, 40 + 8 * number), **MANY) for number in range(6)]
    counts, lock = Counter(), threading.Lock()

    def count(what, number=1):
        with lock:
            counts[what] += number

    def push(seed):
        chance = random.Random(seed)
        while time.monotonic() < end:
            place.store().push("leaves", chance.choice(folders))
            count("pushes")
            time.sleep(chance.uniform(0, 0.2))

    def remove():
        while time.monotonic() < end:
            with suppress(UserError):
                refs = place.store().refs("leaves")
                rm(place.store(), "leaves:{1}".format(*chance.choice(refs)) if refs else "leaves:1")
                count("removals")
            time.sleep(0.05)

    def collect():
        while time.monotonic() < end:
            try:
                count("objects collected", gc(place.store()).objects)
                count("gcs")
            except BusyError:
                count("gcs that stepped back")
            time.sleep(0.01)

    with patch.object(claims, "POLL_S", 0.05), ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(push, seed + 1), pool.submit(push, seed + 2), pool.submit(remove), pool.submit(collect)]
        for job in jobs:
            job.result()
    ledger.check()
    taken = place.store().used_numbers("leaves")
    assert len(set(taken)) == len(taken)
    for folder in folders:
        version, _ = place.store().push("leaves", folder)
        assert version.find_damage() == []
    ledger.check_after_gc()
    return ", ".join(f"{number} {what}" for what, number in counts.items()) + "; every version whole"
