import os
import subprocess
import sys

import pytest

from loadstair.clock import monotonic_ns
from loadstair.telemetry.host import HostCpu, HostMemory, ProcessCpu, ProcessMemory
from loadstair.telemetry.source import SourceError
from loadstair.units import s_from_ns


def burn_cpu(seconds: float) -> None:
    until = os.times().user + seconds
    while os.times().user < until:
        pass


def test_the_first_read_has_no_interval_and_yields_nothing() -> None:
    assert ProcessCpu("generator/w1", os.getpid(), series="generator.cpu_percent").read() == []
    assert HostCpu().read() == []


def test_a_busy_process_shows_and_an_idle_one_does_not() -> None:
    busy = ProcessCpu("generator/w1", os.getpid(), series="generator.cpu_percent")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        idle = ProcessCpu("a/engine0", child.pid, series="process.cpu_percent")
        busy.read()
        idle.read()
        burn_cpu(0.3)
        (busy_reading,), (idle_reading,) = busy.read(), idle.read()
        child.communicate(b"\n")
    assert busy_reading.series == "generator.cpu_percent"
    assert busy_reading.value > idle_reading.value >= 0


def test_what_a_process_started_is_counted_with_it() -> None:
    source = ProcessCpu("a/engine0", os.getpid(), series="process.cpu_percent")
    script = "import os\nwhile os.times().user < 0.3: pass\nprint(flush=True)\ninput()"
    began_ns = monotonic_ns()
    source.read()
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (reading,) = source.read()
        elapsed_s = s_from_ns(monotonic_ns() - began_ns)
        child.communicate(b"\n")
    # The child burned 0.3 s, give or take two ticks of 10 ms, while we waited; we ourselves burned next to nothing.
    assert reading.value / 100 * elapsed_s >= 0.28


def test_the_hosts_percentage_is_one_of_all_cores() -> None:
    source = HostCpu()
    source.read()
    burn_cpu(0.2)
    (reading,) = source.read()
    assert reading.series == "host.cpu_percent"
    assert 0 < reading.value <= 100


def test_a_process_that_is_gone_is_an_error_of_the_source() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with pytest.raises(SourceError, match=str(child.pid)):
        ProcessCpu("a/engine0", child.pid, series="process.cpu_percent").read()


def test_the_memory_of_a_process_is_what_it_holds_with_its_children() -> None:
    source = ProcessMemory(name="a/engine0", pid=os.getpid(), series="process.memory_bytes")
    (alone,) = source.read()
    script = "held = bytearray(50_000_000)\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (together,) = source.read()
        child.communicate(b"\n")
    assert alone.series == "process.memory_bytes"
    assert together.value - alone.value >= 50_000_000
    with pytest.raises(SourceError, match=str(child.pid)):
        ProcessMemory(name="a/engine0", pid=child.pid, series="process.memory_bytes").read()


def test_the_host_has_some_memory_left() -> None:
    (reading,) = HostMemory().read()
    assert reading.series == "host.memory_available_bytes"
    assert reading.value > 0
