# The front. Build it from the top of the project.
FROM python:3.11-slim
# The root file system is mounted read-only: what wants a home or a cache gets /tmp.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DEEPFACE_HOME=/weights \
    DATABASE=/data/gallery.db \
    FRONT_BIND=0.0.0.0:6337
WORKDIR /service
# For names that are drawn into pictures.
RUN apt-get update && apt-get install --yes --no-install-recommends fonts-dejavu-core && rm -rf /var/lib/apt/lists/*
# With what DATABASE=postgresql://... and SEARCH=milvus need.
COPY requirements.txt requirements-postgres.txt requirements-milvus.txt ./
RUN pip install --no-cache-dir --requirement requirements-postgres.txt --requirement requirements-milvus.txt
# The runtime of the page /offline; npm itself does not stay.
RUN --mount=type=bind,source=face_detection/web/offline,target=/tmp/locked apt-get update \
    && apt-get install --yes --no-install-recommends npm \
    && mkdir /tmp/npm && cp /tmp/locked/package.json /tmp/locked/package-lock.json /tmp/npm/ \
    && npm ci --prefix /tmp/npm --ignore-scripts --no-audit --no-fund \
    && install -D -m 644 -t build/web /tmp/npm/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs \
    /tmp/npm/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm \
    && apt-get purge --yes --auto-remove npm && rm -rf /tmp/npm /tmp/.npm /var/lib/apt/lists/*
# A new volume takes over the owner of the folder that it covers.
RUN useradd --uid 10001 --no-create-home service && install -d -o service -g service /weights /data
COPY shared shared
COPY face_detection face_detection
USER service
EXPOSE 6337
HEALTHCHECK --interval=5s --timeout=6s --start-period=1m CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 6337, timeout=5); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "gunicorn", "--config", "face_detection/gunicorn.conf.py"]
