# gnomon's server. Build: docker build -t gnomon .
# It runs as a user without rights; home and cache are under /data.

FROM python:3.12-slim-bookworm AS build

COPY pyproject.toml README.md LICENSE CHANGELOG.md /source/
COPY src /source/src
RUN python -m venv /opt/gnomon \
    && /opt/gnomon/bin/pip install --no-cache-dir "/source[server]"


FROM python:3.12-slim-bookworm AS server

# Jobs outlive whoever started them, so somebody has to take leave of them when they end: tini does, gnomon would not.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 gnomon \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin gnomon \
    && install --directory --owner=gnomon --group=gnomon /data /data/home /data/cache /data/cache/kernels

COPY --from=build /opt/gnomon /opt/gnomon

# The compiled kernels lie in the cache, because nothing may be written beside the program.
ENV PATH=/opt/gnomon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GNOMON_HOME=/data/home \
    GNOMON_CACHE=/data/cache \
    GNOMON_SITES=/data/sites.toml \
    GNOMON_SERVER_HOST=0.0.0.0 \
    NUMBA_CACHE_DIR=/data/cache/kernels

USER 10001:10001
WORKDIR /data

# Compiled once here; a new volume begins with a copy of it.
RUN gnomon methods install raster render-compare

VOLUME ["/data"]
EXPOSE 8800

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8800/v1/health', timeout=4)"]

ENTRYPOINT ["tini", "--", "gnomon"]
CMD ["serve"]


FROM server AS development

# The same with everything for tests, and the sources of this folder in place of the installed ones.
USER 0:0
COPY . /source
RUN pip install --no-cache-dir --editable "/source[all,dev]" \
    && install --directory --owner=gnomon --group=gnomon /source/.pytest_cache
USER 10001:10001
WORKDIR /source


# What `docker build` makes when it is not told otherwise.
FROM server
