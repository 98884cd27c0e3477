"""Run a kernel's notebook or script and write a report. Executed by path inside the sandbox; standard library only.

python runner.py <notebook or script> <report.json> <settings as JSON>

Settings:
    port: of a server on this machine, which the kernel must not be able to reach.
    cores, memory, disk: of Kaggle's machine; memory and disk in bytes.
    read_only: folders that an audit hook protects, while it also blocks network and other programs; null where
        namespaces do that.
"""

import gc
import json
import os
import runpy
import socket
import sys
import traceback

if sys.platform != "win32":
    import resource

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
UNIX_SOCKET = getattr(socket, "AF_UNIX", None)  # between processes of this machine; absent on Windows


def blocker(read_only):
    """Return an audit hook that blocks network and other programs, and protects folders from changes."""
    guarded = [os.path.realpath(folder) for folder in read_only]

    def block(event, arguments):
        if event in BLOCKED and not (event == "socket.connect" and arguments[0].family == UNIX_SOCKET):
            raise PermissionError(f"{event} is blocked: the kernel runs without network and other programs")
        if event in CHANGES or (event == "open" and arguments[2] & WRITING):
            for path in arguments[:2]:
                if isinstance(path, (str, bytes, os.PathLike)) and inside(os.path.realpath(os.fsdecode(path)), guarded):
                    raise PermissionError(f"{event} is blocked: {os.fsdecode(path)} is an input, which is read-only")

    return block


def inside(path, folders):
    return any(os.path.commonpath([path, folder]) == folder for folder in folders)


def limit(cores, memory, disk):
    """Give this process no more cores, bytes of memory and bytes per file than Kaggle's machine has.

    Where the system cannot limit memory or file size, the rehearsal still judges what was used.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    else:
        os.environ["OMP_NUM_THREADS"] = str(min(cores, os.cpu_count() or cores))  # torch reads it when it is imported
    if sys.platform != "win32":
        for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, disk)):
            hard = resource.getrlimit(kind)[1]
            try:
                resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
            except (ValueError, OSError) as error:
                print(f"this system does not limit a kernel to {most} bytes: {error}", file=sys.stderr)


def run_notebook(path):
    with open(path, encoding="utf-8") as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        source = "".join(cell["source"])
        for line in source.splitlines():
            if line.lstrip().startswith(("%", "!")):
                raise SyntaxError(f"cell {number} is not plain Python: {line}")
        exec(compile(source, f"<cell {number}>", "exec"), namespace)


def reaches(port):
    """Whether a connection to a server on this machine succeeds, which it must not without network."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def peak_memory():
    """Resident bytes of this process plus those of its largest child; 0 on Windows."""
    if sys.platform != "win32":
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
        return unit * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 0


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
    with open(report, "w", encoding="utf-8") as file:
        json.dump({"error": error, "modules": loaded, "network": network, "peak_memory": peak_memory()}, file)
    gc.freeze()  # exit without a garbage collection, which takes up to a second with torch loaded
    sys.exit(1 if error else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
