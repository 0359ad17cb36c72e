# syntax=docker/dockerfile:1
# One image for head, workers and jobs: identical Python, Ray and kdsearch, as constraints.txt pins them, for a user
# without rights. Each of them is healthy in a way of its own: the checks stand in docker-compose.yml and the manifests.
# `docker build -t kdsearch:cpu .`, or with `--build-arg TORCH=cuda -t kdsearch:cuda` for GPUs.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH=cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PATH=/opt/kdsearch/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints.txt ./
# torch apart: it is most of the image, changes least, and is the only part that CPU and CUDA differ in.
# Its version stands in constraints.txt.
# hadolint ignore=DL3013
RUN python -m venv /opt/kdsearch; \
    case "$TORCH" in \
      cpu) set -- --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) set -- ;; \
      *) echo "TORCH is '$TORCH'; known: cpu, cuda" >&2; exit 2 ;; \
    esac; \
    pip install --no-deps "$@" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY spaces spaces
COPY trainables trainables
COPY analysis analysis
COPY search search
RUN pip install -c constraints.txt ".[cluster,postgresql]"

FROM python:${PYTHON}
# /work may belong to whoever runs the container (docker-compose.yml: KDSEARCH_UID), hence open as /tmp is.
# KubeRay starts Ray from a login shell, which forgets PATH: hence the links.
RUN useradd --uid 1000 --user-group --home-dir /work --no-create-home --shell /bin/bash kdsearch \
    && install --directory --owner kdsearch --group kdsearch --mode 1777 /work \
    && ln -s /opt/kdsearch/bin/kdsearch /opt/kdsearch/bin/ray /usr/local/bin/
COPY --from=build /opt/kdsearch /opt/kdsearch
ENV HOME=/work \
    KDSEARCH_WORK=/work \
    LOGNAME=kdsearch \
    PATH=/opt/kdsearch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    USER=kdsearch
WORKDIR /work
USER 1000:1000
CMD ["kdsearch", "--help"]
