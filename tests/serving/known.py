"""Models and GPUs of the catalogue, by names that are in it."""

from loadstair.serving.catalogue import Gpu, Model, find_gpu, find_model


def model(name: str) -> Model:
    found = find_model(name)
    assert found is not None
    return found


def gpu(name: str) -> Gpu:
    found = find_gpu(name)
    assert found is not None
    return found
