"""Print the licence of every installed package, as its metadata states it: one line each, sorted by licence."""

from importlib.metadata import PackageMetadata, distributions

CLASSIFIER = "License :: "


def licence_of(metadata: PackageMetadata) -> str:
    """Return the SPDX expression, else the classifiers, else the first line of the licence field."""
    if expression := metadata.get("License-Expression"):
        return expression
    classes = [each.rsplit(" :: ", 1)[1] for each in metadata.get_all("Classifier", []) if each.startswith(CLASSIFIER)]
    text = (metadata.get("License") or "").strip().splitlines()
    return ", ".join(classes) or (text[0][:60] if text else "not stated")


lines = {(licence_of(each.metadata), each.metadata["Name"], each.version) for each in distributions()}
for licence, name, version in sorted(lines, key=lambda line: tuple(map(str.lower, line))):
    print(f"{licence:<45} {name} {version}")
