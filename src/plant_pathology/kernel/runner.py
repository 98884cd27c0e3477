"""Runs a kernel's notebook or script and reports on it. Executed inside the sandbox by path; standard library only.

python kernel_runner.py <notebook or script> <report.json> <settings as JSON>

Settings: `port` that must not be reachable; `cores`, `memory` and `disk` (bytes) of Kaggle's machine; `read_only`,
folders that an audit hook keeps as they are, with network and other programs out of reach; null where a namespace does.
"""

import gc
import json
import os
import resource
import runpy
import socket
import sys
import traceback

BLOCKED = {
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.system",
}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def blocker(read_only):
    """An audit hook that takes network and other programs away from this interpreter, and guards folders."""
    guarded = [os.path.realpath(folder) for folder in read_only]

    def block(event, arguments):
        if event in BLOCKED and not (event == "socket.connect" and arguments[0].family == socket.AF_UNIX):
            raise PermissionError(f"{event} is blocked: the kernel runs without network and other programs")
        if event in CHANGES or (event == "open" and arguments[2] & WRITING):
            for path in arguments[:2]:
                if isinstance(path, (str, bytes, os.PathLike)) and inside(os.path.realpath(os.fsdecode(path)), guarded):
                    raise PermissionError(f"{event} is blocked: {os.fsdecode(path)} is an input, which is read-only")

    return block


def inside(path, folders):
    return any(os.path.commonpath([path, folder]) == folder for folder in folders)


def limit(cores, memory, disk):
    """Give this process no more than Kaggle's machine has, so that it fails here as it would there."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, disk)):
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def run_notebook(path):
    with open(path) as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        source = "".join(cell["source"])
        for line in source.splitlines():
            if line.lstrip().startswith(("%", "!")):
                raise SyntaxError(f"cell {number} is not plain Python: {line}")
        exec(compile(source, f"<cell {number}>", "exec"), namespace)


def reaches(port):
    """Whether the machine's own server can be reached, which a kernel without network must not."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def peak_memory():
    """Resident bytes of this process, and of the largest that it started."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main(kernel, report, settings):
    settings = json.loads(settings)
    if settings["read_only"] is not None:
        sys.addaudithook(blocker(settings["read_only"]))
    limit(settings["cores"], settings["memory"], settings["disk"])
    error = None
    try:
        run_notebook(kernel) if kernel.endswith(".ipynb") else runpy.run_path(kernel, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
        print(error, file=sys.stderr)
    loaded = {name: str(getattr(module, "__file__", None)) for name, module in sys.modules.items() if "." not in name}
    network = reaches(settings["port"])
    with open(report, "w") as file:
        json.dump({"error": error, "modules": loaded, "network": network, "peak_memory": peak_memory()}, file)
    gc.freeze()  # nothing is left that would be worth a search for garbage at exit
    sys.exit(1 if error else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
