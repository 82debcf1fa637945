from pathlib import Path

import pytest

from loadstair.telemetry.gpu import Gpu, local_gpus
from loadstair.telemetry.source import SourceError

HAS_DRIVER = Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(HAS_DRIVER, reason="has an NVIDIA driver")
def test_a_machine_without_a_driver_has_no_gpu_sources() -> None:
    assert local_gpus("tp1") == []


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_DRIVER, reason="needs an NVIDIA driver")
def test_this_machines_gpus_tell_their_memory_and_utilization() -> None:
    gpus = local_gpus("tp1")
    assert [gpu.name for gpu in gpus] == [f"tp1/gpu{index}" for index in range(len(gpus))]
    values = {reading.series: reading.value for reading in gpus[0].read()}
    assert 0 < values["gpu.memory_used_bytes"] <= values["gpu.memory_total_bytes"]
    assert 0 <= values["gpu.utilization"] <= 1


def test_a_gpu_that_is_not_there_is_an_error_of_the_source() -> None:
    with pytest.raises(SourceError, match="GPU 999"):
        Gpu(name="tp1/gpu999", index=999).read()
