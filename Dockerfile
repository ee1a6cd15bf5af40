# syntax=docker/dockerfile:1
# The command line and the web page, on a CPU; on a GPU with CUDA 13:
#   docker build -t pixelsleuth .
#   docker build -t pixelsleuth:gpu --build-arg TORCH=https://download.pytorch.org/whl/cu130 .
# Run it with a read-only file system, as compose.yaml does; what is written goes to /out and /tmp:
#   docker run --rm --read-only --tmpfs /tmp --network none -v ./photos:/in:ro -v ./out:/out pixelsleuth detect /in --out /out
# As MOOD calls its containers, with the model folder beside this file:
#   docker build --build-arg MODEL=runs/my_model --target mood -t my_submission .
#   docker run --network none -v IN:/mnt/data -v OUT:/mnt/pred my_submission -i /mnt/data -o /mnt/pred --mode sample
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# Of where torch comes; the CPU's is a tenth as large as PyPI's.
ARG TORCH=https://download.pytorch.org/whl/cpu
ARG TORCH_VERSION=2.13.0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/pixelsleuth
ENV PATH=/opt/pixelsleuth/bin:$PATH
# In a layer of its own: it changes seldom.
RUN pip install --index-url "${TORCH}" "torch==${TORCH_VERSION}"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# The package itself, of this folder: there is no version to pin.
# hadolint ignore=DL3013
RUN pip install ".[web,dicom,c2pa]"

FROM python:${PYTHON} AS mood
ARG MODEL=src/pixelsleuth/assets/brain_t1
COPY --from=build /opt/pixelsleuth /opt/pixelsleuth
COPY ${MODEL} /opt/model
ENV PATH=/opt/pixelsleuth/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp
USER 65534:65534
ENTRYPOINT ["pixelsleuth", "mood", "--model", "/opt/model"]

FROM python:${PYTHON}
COPY --from=build /opt/pixelsleuth /opt/pixelsleuth
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin sleuth
# All that libraries keep beside the results goes to /tmp, so that the rest can be read-only.
ENV PATH=/opt/pixelsleuth/bin:$PATH HOME=/tmp HF_HOME=/tmp/hub MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
WORKDIR /out
USER 10001:10001
EXPOSE 8000
# Of the web page; a container that runs another command ends by itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/health', timeout=4)"]
ENTRYPOINT ["pixelsleuth"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
