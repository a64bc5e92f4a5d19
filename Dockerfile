# convoscope for training and for the studio; docs/installation.md has the commands.

# The wheel, with the studio's page in it. The build gets a Node of its own, which the image does not keep.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# tcmalloc: training is 1.2 to 1.7 times as fast with it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libtcmalloc-minimal4 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.10" "torchvision>=0.25"
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl \
    && useradd --create-home --uid 1000 convoscope \
    && mkdir /work \
    && chown convoscope /work
USER convoscope
WORKDIR /work
VOLUME /work
ENTRYPOINT ["convoscope"]
CMD ["--help"]
