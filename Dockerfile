# One image for apply, dataflow and scorer: `docker build --tag headwater .`
ARG PYTHON=python:3.12.12-slim-bookworm

FROM ${PYTHON} AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON=/venv/bin/python
RUN pip install --no-cache-dir --root-user-action=ignore "uv>=0.9,<1" && uv venv --python python3 /venv
WORKDIR /build
# The slow part first, and only again when the lock changes: what runs, in the lock's versions.
COPY requirements.lock pyproject.toml ./
RUN uv pip install --require-hashes --constraint requirements.lock --requirement pyproject.toml \
    --extra traces
COPY README.md LICENSE ./
COPY contracts contracts
COPY dataflows dataflows
COPY scorer scorer
COPY cli cli
RUN uv pip install --no-deps .

FROM ${PYTHON}
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin headwater
COPY --from=build /venv /venv
WORKDIR /app
COPY feature_repo feature_repo
# A volume that is mounted here for the first time gets this owner.
RUN install --directory --owner=headwater --group=headwater feature_repo/data
# Compiled kernels are kept with the data, so that only the first start compiles.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TZ=UTC \
    NUMBA_CACHE_DIR=/app/feature_repo/data/compiled
USER 10001:10001
ENTRYPOINT ["headwater"]
CMD ["--help"]
