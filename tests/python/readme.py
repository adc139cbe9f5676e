"""Runs the Python of the README, line for line as it stands there.

The shell lines make the stubs in an empty folder beside `proto`, the Python lines then append to a broker. Only two
things are not as they stand: packages are looked for instead of installed, and the broker has another port.

    readme.py --binary target/debug/tillroll --readme README.md --proto proto
"""

import argparse
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile

from client import Broker

BEGIN = "The same append in Python"
END = "Use it if "
ADDRESS = "127.0.0.1:7420"
DEADLINE_S = 120


def blocks(readme):
    """The two indented blocks of the section: shell, then Python."""
    section = readme[readme.index(BEGIN) : readme.index(END)]
    found, block = [], []
    for line in [*section.splitlines(), "end"]:
        if line.startswith("    "):
            block.append(line[4:])
        elif line == "" and block:
            block.append("")
        elif block:
            found.append("\n".join(block).strip() + "\n")
            block = []
    assert len(found) == 2, f"{len(found)} blocks: {found}"
    return found


def check_packages(line):
    words = line.split()
    assert words[:2] == ["pip", "install"], f"the first shell line installs: {line}"
    for package in words[2:]:
        print(f"{package} {importlib.metadata.version(package)}")


def run(options):
    shell, python = blocks(options.readme.read_text())
    install, _, rest = shell.partition("\n")
    check_packages(install)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(options.proto.resolve(), pathlib.Path(folder) / "proto")
        path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        subprocess.run(["sh", "-ec", rest], cwd=folder, env=environment, check=True, timeout=DEADLINE_S)
        broker = Broker(str(options.binary.resolve()), str(pathlib.Path(folder) / "data"))
        try:
            address = broker.address()
            create = [str(options.binary.resolve()), "topic", "create", "orders", "--server", address]
            subprocess.run(create, check=True, timeout=DEADLINE_S)
            assert python.count(ADDRESS) == 1, python
            done = subprocess.run(
                [sys.executable, "-c", python.replace(ADDRESS, address)],
                cwd=folder,
                env={**environment, "PYTHONPATH": "stubs"},
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("partition ") and done.stdout.endswith(" offset 0\n"), done.stdout
            print(done.stdout, end="")
            assert broker.stop() == 0
        finally:
            broker.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--readme", required=True, type=pathlib.Path)
    parser.add_argument("--proto", required=True, type=pathlib.Path)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
