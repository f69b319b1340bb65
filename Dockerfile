# The images `edge` and `llama`:   docker build --target edge .      docker build --target llama .
#
# Builds with BuildKit and with the older builder, and needs no image but the base. Every stage uses what the base
# calls python3 (3.11 or newer); a base without one gets its distribution's. llama.cpp is compiled for every CPU of
# the architecture at once and picks its kernels when it starts, so an image runs on any x86-64-v2 or arm64 host.
# (gcc 14 or newer for arm64: older ones do not know all of its instruction sets.)
ARG BASE_IMAGE=python:3.13-slim-trixie
ARG BUILD_IMAGE=${BASE_IMAGE}

# What the final images stand on.
FROM ${BASE_IMAGE} AS base
RUN command -v python3 >/dev/null || { apt-get update && \
    apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; }
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app

# pip lives beside the environment that is shipped, not in it.
FROM ${BUILD_IMAGE} AS build
RUN apt-get update && \
    apt-get install -y --no-install-recommends binutils $(command -v python3 >/dev/null || echo python3-venv) && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* && \
    python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/slim.sh deploy/

FROM build AS edge-files
COPY requirements/edge.txt requirements/
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: \
        -r requirements/edge.txt && \
    sh deploy/slim.sh /opt/venv
COPY common /app/common
COPY protos /app/protos
COPY edge /app/edge
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM base AS edge
COPY --from=edge-files /opt/venv /opt/venv
COPY --from=edge-files /app /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('EDGE_PORT') or 8000}/health/ready\", timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "edge"]

# GPU is empty (CPU only) or a backend of deploy/llama_wheel.py. Nothing but the pin and the build script is copied,
# so that the minutes of compiling are spent again only when one of them changes.
FROM build AS llama-wheel
RUN apt-get update && \
    apt-get install -y --no-install-recommends g++ cmake ninja-build && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
ARG GPU=
ARG JOBS=
COPY deploy/llama_wheel.py deploy/
RUN GPU="${GPU}" CMAKE_BUILD_PARALLEL_LEVEL="${JOBS}" /opt/pip/bin/python deploy/llama_wheel.py --out /wheels

FROM build AS llama-files
COPY requirements/worker.txt requirements/
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: \
        -r requirements/worker.txt
COPY --from=llama-wheel /wheels /wheels
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl && \
    sh deploy/slim.sh /opt/venv
COPY common /app/common
COPY protos /app/protos
COPY services /app/services
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM base AS llama
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=llama-files /opt/venv /opt/venv
COPY --from=llama-files /app /app
USER 10001:10001
EXPOSE 50051
HEALTHCHECK --interval=15s --timeout=10s --start-period=300s --retries=3 \
    CMD ["sh", "-c", "exec python -m services.worker.healthcheck 127.0.0.1:${LLAMA_PORT:-50051}"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "services.llama"]
