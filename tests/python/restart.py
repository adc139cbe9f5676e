"""How long a broker that was killed takes to be back, with its journal as full as appends can make it.

For each size of data: loads it, stops the broker in order, starts it again with checkpoints held off, appends until
nothing more is taken, sends SIGKILL, and then starts and kills it five times, with the page cache dropped before each
start where that is allowed. Prints the median time from the start of the process to "listening on".

    restart.py --binary target/release/tillroll --dir DIR [--data-gib 0 1 20]
"""

import argparse
import base64
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import time

LINE_BYTES = 1_000
BLOCK_LINES = 64_000
STARTS = 5
# A loader that moves no journal file for so long has met the end of the journal.
STILL_SECONDS = 3.0


class Broker:
    def __init__(self, binary, data, *options):
        began = time.monotonic()
        command = [binary, "serve", "--data", data, "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.replayed = "nothing replayed"
        for line in self.process.stderr:
            if " of the journal replayed in " in line:
                self.replayed = line.split("notice: ")[-1].strip()
            if line.startswith("listening on "):
                self.server = "http://" + line.split()[-1]
                self.seconds = time.monotonic() - began
                return
        raise SystemExit(f"the broker ended with {self.process.wait()} and never listened")

    def end(self, how):
        self.process.send_signal(how)
        self.process.stderr.read()
        return self.process.wait()


def block():
    """Lines that hardly compress: base64 of noise, a few of which are shuffled."""
    dice = random.Random(7)
    lines = [base64.b64encode(dice.randbytes(LINE_BYTES * 3 // 4 - 1))[: LINE_BYTES - 1] for _ in range(1_000)]
    return b"".join(dice.choice(lines) + b"\n" for _ in range(BLOCK_LINES))


def loader(binary, server):
    command = [binary, "append", "full", "-", "--server", server]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def load(binary, server, gib):
    lines = block()
    loading = loader(binary, server)
    for _ in range(round(gib * (1 << 30) / len(lines))):
        loading.stdin.write(lines)
    loading.stdin.close()
    assert loading.wait() == 0, "the load ends well"


def fill(binary, server, journal):
    """Appends until no journal file is written any more."""
    lines = block()
    loading = loader(binary, server)
    os.set_blocking(loading.stdin.fileno(), False)
    at, moved, newest = 0, time.monotonic(), 0.0
    while time.monotonic() - moved < STILL_SECONDS:
        try:
            at = (at + os.write(loading.stdin.fileno(), lines[at : at + (1 << 16)])) % len(lines)
        except BlockingIOError:
            time.sleep(0.01)
        mtime = max(file.stat().st_mtime for file in journal.iterdir())
        if mtime > newest:
            moved, newest = time.monotonic(), mtime
    loading.kill()
    loading.wait()


def forget_pages():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def measure(binary, base, gib):
    data = pathlib.Path(base) / f"restart-{os.getpid()}-{gib}"
    try:
        broker = Broker(binary, data)
        topic = ["topic", "create", "full", "--partitions", "8", "--compression", "none", "--server", broker.server]
        subprocess.run([binary, *topic], check=True, stdout=subprocess.DEVNULL)
        load(binary, broker.server, gib)
        assert broker.end(signal.SIGTERM) == 0, "an orderly stop"
        broker = Broker(binary, data, "--hold-checkpoints")
        clean = broker.seconds
        fill(binary, broker.server, data / "journal")
        broker.end(signal.SIGKILL)
        seconds, is_cold = [], True
        for _ in range(STARTS):
            is_cold = forget_pages() and is_cold
            broker = Broker(binary, data, "--hold-checkpoints")
            seconds.append(broker.seconds)
            broker.end(signal.SIGKILL)
        files = len([file for file in (data / "journal").iterdir() if any(file.open("rb").read(64))])
        stored = sum(file.stat().st_blocks * 512 for file in (data / "data").rglob("*.log")) / (1 << 30)
        print(
            f"{gib:>4} GiB loaded, {stored:.1f} GiB in segments, page cache {'dropped' if is_cold else 'kept'}: "
            f"after a kill {statistics.median(seconds):.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f}), after an orderly stop {clean:.2f} s; "
            f"{files} journal files, {broker.replayed}",
            flush=True,
        )
    finally:
        shutil.rmtree(data, ignore_errors=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--dir", required=True, help="on a real disk, with room for the data")
    arguments.add_argument("--data-gib", type=float, nargs="+", default=[0, 1, 20])
    given = arguments.parse_args()
    for gib in given.data_gib:
        measure(given.binary, given.dir, gib)


if __name__ == "__main__":
    main()
