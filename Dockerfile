# Searching and serving only: no torch. The models that it takes are exported ones (hashret export MODEL --onnx).
#
#   docker build -t hashret .
#   docker run --rm -p 8000:8000 -v ./photos.hashret:/data/photos.hashret -v ./run/model:/data/model:ro hashret \
#       serve /data/photos.hashret --model /data/model --host 0.0.0.0 --read-only
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[server,onnx,heic]" && rm -r /wheels
RUN useradd --uid 10001 --create-home hashret
USER hashret
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["hashret"]
CMD ["--help"]
