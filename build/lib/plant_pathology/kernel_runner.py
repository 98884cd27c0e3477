"""Runs a kernel's notebook or script and reports on it. Executed inside the sandbox by path; standard library only.

python kernel_runner.py <notebook or script> <report.json> <port that must not be reachable> <block sockets: 0 or 1>
"""

import json
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


def block(event, arguments):
    """An audit hook that takes network and other programs away from this interpreter."""
    if event in BLOCKED and not (event == "socket.connect" and arguments[0].family == socket.AF_UNIX):
        raise PermissionError(f"{event} is blocked: the kernel runs without network and other programs")


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


def main(kernel, report, port, blocked):
    if blocked == "1":
        sys.addaudithook(block)
    error = None
    try:
        run_notebook(kernel) if kernel.endswith(".ipynb") else runpy.run_path(kernel, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
        print(error, file=sys.stderr)
    unit = 1 if sys.platform == "darwin" else 1024
    loaded = {name: str(getattr(module, "__file__", None)) for name, module in sys.modules.items() if "." not in name}
    with open(report, "w") as file:
        json.dump(
            {
                "error": error,
                "modules": loaded,
                "network": reaches(int(port)),
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            },
            file,
        )
    sys.exit(1 if error else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
