# The load generator: Locust with our locustfile, and the `loadstair` command. No engine and no GPU library of CUDA's in it.
#   docker build --tag loadstair:0.1.0 .
#   docker run --rm --network host loadstair:0.1.0 loadstair check plans/quickstart.yaml
#   docker run --rm --network host --volume "$PWD/reports:/app/reports" --user "$(id -u)" loadstair:0.1.0 \
#     loadstair run plans/h100-compose.yaml
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY loadstair loadstair
COPY locustfiles locustfiles
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# nginx for topologies that Loadstair starts itself; it runs unprivileged, Debian's own service never.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Before the package, so that a change of the code leaves this layer as it is.
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels
WORKDIR /app
COPY plans plans
COPY locustfiles locustfiles
# /app/reports takes the runs; a volume mounted there belongs to whoever --user names.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp loadstair \
    && install --directory --owner loadstair --mode 0777 reports
ENV HOME=/tmp
USER 10001
EXPOSE 8089 5557
CMD ["locust", "-f", "locustfiles/chat.py", "--web-host", "0.0.0.0"]
