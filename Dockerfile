# ssl-zoo in a container: small and for processors, or with CUDA for NVIDIA GPUs.
#
#   docker build -t ssl-zoo .
#   docker build -t ssl-zoo:cuda --build-arg VARIANT=full .
#   docker run --rm --shm-size=8g -v "$PWD":/workspace ssl-zoo train swav epochs=2 -o runs/swav
#   docker run --rm --gpus all --shm-size=8g -v "$PWD":/workspace ssl-zoo:cuda doctor
#
# Wheels of torch for CUDA contain its libraries, so both variants start from the same base; the host needs the
# NVIDIA driver and its container toolkit. Loader processes need --shm-size.
FROM python:3.11-slim-bookworm
ARG VARIANT=small
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /opt/ssl-zoo
COPY setup.cfg setup.py pyproject.toml requirements-small.txt README.md LICENSE ./
COPY ssl_zoo ssl_zoo
COPY methods methods
COPY model_cards model_cards
RUN if [ "$VARIANT" = full ]; then \
      pip install '.[fast,report,timm]'; \
    elif [ "$VARIANT" = small ]; then \
      pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu && \
      pip install -r requirements-small.txt 'opencv-python-headless>=4.8' 'simplejpeg>=1.7' 'jinja2>=3.1' 'plotly>=5.24' && \
      pip install --no-deps .; \
    else \
      echo "unknown VARIANT '$VARIANT'; use small or full" >&2; exit 2; \
    fi
ENV SSL_ZOO_CACHE=/workspace/.cache/ssl-zoo
WORKDIR /workspace
ENTRYPOINT ["ssl-zoo"]
CMD ["--help"]
