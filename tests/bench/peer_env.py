# SPDX-License-Identifier: Apache-2.0
"""llama.cpp as the peer of benchmarks: PyPI's llama-cpp-python in an environment of its own, built from source for
this machine, and a process in it that runs what it is told (peer_worker.py)."""
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
CMAKE_ARGS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
MARK = "driftd-peer.json"  # in the environment: what it was built for


class Void(Exception):
    """The peer is not what a ratio may be taken of."""


def default_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "driftd", "bench", "venv")


def cores():
    return len(os.sched_getaffinity(0))


def cpu_flags():
    """A hash of what the CPU can do: another machine needs another build."""
    with open("/proc/cpuinfo") as f:
        flags = next((line for line in f if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16]


def say(text):
    print(text, file=sys.stderr, flush=True)


def python(folder):
    return os.path.join(folder, "bin", "python")


def _pip(folder, *args):
    env = dict(os.environ, CMAKE_ARGS=CMAKE_ARGS, CMAKE_BUILD_PARALLEL_LEVEL=str(cores()))
    subprocess.run([python(folder), "-m", "pip", "install", "--disable-pip-version-check", "-q", *args], env=env,
                   check=True, stdout=sys.stderr)


def ensure(folder, spec="llama-cpp-python", server=False):
    """Makes the environment where it is not there yet; the interpreter in it. Building takes minutes."""
    mark_path = os.path.join(folder, MARK)
    want = {"spec": spec, "cmake_args": CMAKE_ARGS, "cpu": cpu_flags()}
    try:
        with open(mark_path) as f:
            have = json.load(f)
    except (OSError, ValueError):
        have = {}
    if {k: have.get(k) for k in want} != want:
        say("building %s from source in %s: this takes minutes" % (spec, folder))
        venv.create(folder, with_pip=True)
        # The cache of wheels may hold one built elsewhere, or with other flags.
        _pip(folder, "--no-cache-dir", "--force-reinstall", "--no-binary", "llama-cpp-python", spec)
        have = dict(want)
    if server and not have.get("server"):
        _pip(folder, "llama-cpp-python[server]")
        have["server"] = True
    with open(mark_path, "w") as f:
        json.dump(have, f)
    return python(folder)


class Others:
    """How much of the machine's CPU time other programs take (and what a hypervisor takes away): llama.cpp's threads
    wait for each other by spinning, and are slower by tens where something else runs."""

    def __init__(self, *processes):
        """`processes`: those of ours that go on running; what they and we start and await is counted anyway."""
        self.processes = processes

    def _ours(self):
        used = 0
        for process in self.processes:
            with open("/proc/%d/stat" % process.pid) as f:
                fields = f.read().rsplit(")", 1)[1].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            used += usage.ru_utime + usage.ru_stime
        return used

    @staticmethod
    def _busy():
        with open("/proc/stat") as f:
            user, nice, system, idle, iowait, irq, softirq, steal = (int(v) for v in f.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    def during(self, function, *args):
        """What the function gives, and the share of all CPUs that others had meanwhile."""
        began, busy, ours = time.monotonic(), self._busy(), self._ours()
        result = function(*args)
        wall = time.monotonic() - began
        others = self._busy() - busy - (self._ours() - ours)
        return result, max(0.0, others / (wall * os.cpu_count()))

    def wait(self, limit, seconds):
        """Until others have less than that share, or so many seconds have passed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.during(time.sleep, 0.5)[1] > limit:
            pass


class Worker:
    """The process in the environment: one JSON object a line each way."""

    def __init__(self, interpreter, extra_env=None):
        self.process = subprocess.Popen([interpreter, os.path.join(HERE, "peer_worker.py")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=dict(os.environ, **(extra_env or {})))

    def call(self, command, **fields):
        print(json.dumps(dict(fields, command=command)), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("llama.cpp's process ended with status %s" % self.process.wait())
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError("llama.cpp: " + reply["error"])
        return reply

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def check_system(info):
    """Only a peer that uses the machine's packed dot product is worth a ratio."""
    if "AVX512_VNNI = 1" not in info["system"]:
        raise Void("the ratio is void: llama.cpp's system info does not say AVX512_VNNI = 1 but: " + info["system"])
