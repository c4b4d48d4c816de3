# The extraction service. Build it from the top of the project; the target is cpu (default) or gpu.
FROM python:3.11-slim AS base
# The root file system is mounted read-only: what wants a home or a cache gets /tmp.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DEEPFACE_HOME=/weights \
    EXTRACTION_BIND=0.0.0.0:5000
WORKDIR /service
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
# A new volume takes over the owner of the folder that it covers.
RUN useradd --uid 10001 --no-create-home service && install -d -o service -g service /weights
EXPOSE 5000
# The first start downloads and converts the weights.
HEALTHCHECK --interval=5s --timeout=6s --start-period=15m CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 5000, timeout=5); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
# Fetches the detector, too: the front only reads it.
CMD ["sh", "-c", "python -m feature_extraction.weights fetch && exec python -m gunicorn --config feature_extraction/gunicorn.conf.py"]

FROM base AS gpu
ENV EXECUTION_PROVIDERS=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY requirements-gpu.txt ./
# Both packages write to the same folder, so the one for the CPU has to go first.
RUN pip uninstall --yes onnxruntime && pip install --no-cache-dir --requirement requirements-gpu.txt
COPY shared shared
COPY feature_extraction feature_extraction
USER service

FROM base AS cpu
COPY shared shared
COPY feature_extraction feature_extraction
USER service
