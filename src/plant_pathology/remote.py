"""Remote: name the place where DVC keeps all results for other machines, and show what a push would upload.

The address goes into .dvc/config, which is committed; credentials are those of the machine, and never in the address.
"""

import argparse
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from plant_pathology.core.checkout import checkout, require_checkout
from plant_pathology.core.ending import program
from plant_pathology.core.errors import UserError
from plant_pathology.core.provenance import locked_stages
from plant_pathology.core.stages import Stage, read_stages
from plant_pathology.core.text import one_line

NAME = "storage"  # of the remote, in .dvc/config


@program
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plant_pathology.remote", description=__doc__)
    parser.add_argument("url", nargs="?", help="s3://bucket/prefix, gs://…, azure://…, ssh://…, or a shared folder")
    parser.add_argument("--endpoint-url", help="another S3 server than Amazon's")
    arguments = parser.parse_args()
    require_checkout()
    if arguments.url:
        set_remote(arguments.url, arguments.endpoint_url)
    sizes = sizes_of(read_stages())
    for path, size in sizes.items():
        print(f"{tqdm.format_sizeof(size, 'B'):>10}  {path}")
    print(
        f"{tqdm.format_sizeof(sum(sizes.values()), 'B'):>10}  in all, without what is there already and what is equal"
    )
    if arguments.url:
        print("next: git add .dvc/config dvc.lock && git commit -m 'results, and where they are' && dvc push")


def set_remote(url: str, endpoint: str | None) -> None:
    """Write the default remote to .dvc/config.

    Raises:
        UserError: the address holds a password, its kind is unknown, or a package for it is not installed.
    """
    for address in (url, endpoint or ""):
        if urlsplit(address).password is not None:
            raise UserError(
                "the address holds a password, which would be committed: leave it out, and set it with"
                f" `dvc remote modify --local {NAME} password …`, or as the service's own tool keeps it"
            )
    require_package(url)
    folder = url if "://" in url else str(Path(url).expanduser().resolve())
    dvc("remote", "add", "--default", "--force", NAME, folder)
    if endpoint:
        dvc("remote", "modify", NAME, "endpointurl", endpoint)


def require_package(url: str) -> None:
    """Raise a UserError unless DVC can talk to an address of this kind; DVC has one package for each."""
    from dvc.fs import known_implementations  # here: it takes most of a second

    if "://" not in url:
        return
    kind = urlsplit(url).scheme
    packages = {name: entry["class"].partition(".")[0] for name, entry in known_implementations.items()}
    packages = {name: package for name, package in packages.items() if package in (f"dvc_{name}", f"dvc_{name[:-1]}")}
    if kind not in packages:
        raise UserError(f"{kind}://: DVC keeps results at no such address; write one of {', '.join(sorted(packages))}")
    if importlib.util.find_spec(packages[kind]) is None:
        extra = packages[kind].removeprefix("dvc_")  # not by the lock: it holds another botocore than dvc[s3] takes
        raise UserError(
            f'{kind}:// needs a package of DVC: {shlex.quote(sys.executable)} -m pip install -e . "dvc[{extra}]"'
        )


def dvc(*arguments: str) -> None:
    """Run DVC; its own error becomes ours."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=checkout(), capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"DVC does not take this remote: {one_line(done.stderr)}")


def sizes_of(stages: list[Stage]) -> dict[str, int]:
    """Return the bytes of each output, by path, as dvc.lock has them.

    Raises:
        UserError: there is no dvc.lock, or it is damaged.
    """
    if not (locked := locked_stages(checkout())):
        raise UserError("dvc.lock does not exist: `make repro` first, so that there is something to push")
    return {out["path"]: out.get("size", 0) for stage in stages for out in locked.get(stage.name, {}).get("outs", ())}


if __name__ == "__main__":
    main()
