# ssl_zoo on CPUs, or with CUDA:
#   docker build -t ssl-zoo .                                   (torch for CPUs)
#   docker build -t ssl-zoo --build-arg TORCH=cuda .            (torch from PyPI, which brings CUDA's libraries)
#   docker run --rm -v "$PWD:/work" ssl-zoo pretrain objective=rotation backbone=resnet_micro data=digits
# Loader workers need more shared memory than Docker gives: --shm-size=1g; GPUs: --gpus all.
FROM python:3.12-slim
ARG TORCH=cpu
ARG EXTRAS=cpu,pages,tensorboard
COPY . /src
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --compile-bytecode --constraint /src/requirements.lock \
       $([ "$TORCH" = cuda ] || echo --torch-backend "$TORCH") "/src[$EXTRAS]" \
    && rm -rf /src
RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["ssl-zoo"]
CMD ["--help"]
