# docker build --target cpu -t segserve .          (the default)
# docker build --target gpu -t segserve:gpu .
#
# Both run as an unprivileged user on a read-only root: --read-only --tmpfs /tmp -v segserve:/data

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY clients clients
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .


# Environments are made without pip and filled from outside: what installs things stays behind.
# pyvips is Python alone and has no wheel; libvips comes with pyvips-binary, which has.
# DL3013 and DL3008 want pinned versions: the ranges of pyproject.toml and the distribution are the pins here.
FROM ubuntu:24.04 AS gpu-environment
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip python3-venv
COPY --from=wheel /dist /dist
# From 1.27 on onnxruntime-gpu is built for CUDA 13 and cuDNN 9, as the image below has them.
# hadolint ignore=DL3013
RUN python3 -m venv --without-pip /opt/segserve \
    && wheel="$(echo /dist/*.whl)" \
    && pip --python /opt/segserve/bin/python install --no-cache-dir --only-binary :all: --no-binary pyvips \
        "${wheel}[gpu,video,volumes,tracking,oidc]" 'onnxruntime-gpu>=1.27'

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS gpu
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /data segserve \
    && install --directory --owner segserve --group segserve --mode 700 /data
COPY --from=gpu-environment /opt/segserve /opt/segserve
ENV PATH=/opt/segserve/bin:$PATH PYTHONUNBUFFERED=1 SEGSERVE_DATA_DIR=/data SEGSERVE_DEVICE=cuda SEGSERVE_OPERATOR_PORT=8002
USER 10001:10001
VOLUME /data
EXPOSE 8000 8001 8002 8010 8011 8012
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8002/livez', timeout=4)"]
ENTRYPOINT ["segserve"]
CMD ["serve", "--host", "0.0.0.0"]


FROM python:3.11-slim-bookworm AS cpu-environment
COPY --from=wheel /dist /dist
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/segserve \
    && wheel="$(echo /dist/*.whl)" \
    && pip --python /opt/segserve/bin/python install --no-cache-dir --only-binary :all: --no-binary pyvips "${wheel}[cpu,openvino,video,volumes,tracking,oidc]"

FROM python:3.11-slim-bookworm AS cpu
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data segserve \
    && install --directory --owner segserve --group segserve --mode 700 /data
COPY --from=cpu-environment /opt/segserve /opt/segserve
ENV PATH=/opt/segserve/bin:$PATH PYTHONUNBUFFERED=1 SEGSERVE_DATA_DIR=/data SEGSERVE_OPERATOR_PORT=8002
USER 10001:10001
VOLUME /data
EXPOSE 8000 8001 8002 8010 8011 8012
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8002/livez', timeout=4)"]
ENTRYPOINT ["segserve"]
CMD ["serve", "--host", "0.0.0.0"]
