import pytest

from loadstair.telemetry.other_page import OtherPage
from loadstair.telemetry.prometheus import gpu_readings
from loadstair.telemetry.source import Reading, SourceError
from loadstair.telemetry.sources import sources_for
from loadstair.topology.endpoint import Endpoint
from tests.telemetry.scripted_page import served_page

DCGM = """
# HELP DCGM_FI_DEV_GPU_UTIL Share of time in which a kernel ran (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="a"} 98
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="a"} 7
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 73242
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1"} 612.5
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-1"} 1980
"""
STUB_STATUS = """Active connections: 3
server accepts handled requests
 10 9 20
Reading: 0 Writing: 2 Waiting: 1
"""


def other_page(url: str) -> OtherPage:
    endpoint = Endpoint(url="http://127.0.0.1:1/v1", replicas=(), other_pages=(url,))
    (page,) = (source for source in sources_for(endpoint, "there", {}) if isinstance(source, OtherPage))
    return page


def test_each_gpu_of_a_dcgm_exporter_gives_its_readings_in_our_units() -> None:
    assert gpu_readings(DCGM) == [
        Reading(series="gpu.utilization", value=0.98, labels='gpu="0"'),  # 98 %
        Reading(series="gpu.utilization", value=0.07, labels='gpu="1"'),
        Reading(series="gpu.memory_used_bytes", value=73242 * 1024 * 1024, labels='gpu="0"'),  # MiB
        Reading(series="gpu.power_watts", value=612.5, labels='gpu="0"'),
    ]


def test_an_instance_of_a_gpu_is_told_from_its_siblings() -> None:
    page = 'DCGM_FI_DEV_FB_USED{gpu="0",GPU_I_ID="3"} 1\nDCGM_FI_DEV_FB_USED{gpu="0",GPU_I_ID="4"} 2\n'
    assert [reading.labels for reading in gpu_readings(page)] == ['gpu="0",GPU_I_ID="3"', 'gpu="0",GPU_I_ID="4"']


@pytest.mark.parametrize("blank", ["9223372036854775794", "140737488355328", "NaN", "-1"])
def test_what_dcgm_does_not_know_is_left_out(blank: str) -> None:
    assert gpu_readings(f'DCGM_FI_DEV_POWER_USAGE{{gpu="0"}} {blank}\n') == []


def test_a_page_is_read_as_what_it_is() -> None:
    with served_page(lambda _: DCGM) as url:
        assert {reading.series for reading in other_page(url).read()} == {
            "gpu.utilization",
            "gpu.memory_used_bytes",
            "gpu.power_watts",
        }
    with served_page(lambda _: STUB_STATUS) as url:
        read = {reading.series: reading.value for reading in other_page(url).read()}
    assert read["balancer.connections.writing"] == 2
    assert read["balancer.connections.dropped"] == 1  # 10 - 9


@pytest.mark.parametrize("page", ["<html>", "up 1\n", "Active connections: many\n", 'DCGM_FI_DEV_FB_USED{gpu="0" 1\n'])
def test_a_page_that_is_neither_is_a_gap_with_its_reason(page: str) -> None:
    with served_page(lambda _: page) as url, pytest.raises(SourceError, match=url):
        other_page(url).read()
