# A plain install: the service and the probe. The base may be any Debian with Python 3.11 or later and
# its venv module; --build-arg BASE_IMAGE=python:3.13.14-slim-bookworm@sha256:... pins it.
ARG BASE_IMAGE=python:3.13.14-slim-bookworm


FROM ${BASE_IMAGE} AS build

# Most of the size of the wheels is debug symbols. gcc and Python's headers, which some bases have,
# compile what a request goes through.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils gcc libc6-dev \
 && { test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
   || apt-get install --yes --no-install-recommends python3-dev; }

# pip runs from a venv of its own, so that the shipped venv does not contain it.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

COPY requirements.txt requirements-build.txt ./
RUN /opt/build/bin/pip install --require-hashes --requirement requirements-build.txt \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --only-binary :all: \
        --require-hashes --requirement requirements.txt --report report.json \
 && find /opt/venv -name '*.so' -exec strip --strip-unneeded '{}' +

COPY pyproject.toml README.md LICENSE ./
COPY mockservice mockservice
# The container's file system is read-only, and the base may lack bytecode: all that the service
# imports, the standard library included, is compiled here, into a folder of its own.
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps dist/*.whl \
 && PYTHONPYCACHEPREFIX=/opt/venv/pycache /opt/venv/bin/python -P -c 'import runpy, \
        mockservice.cli, mockservice.serve.command, mockservice.serve.run, \
        mockservice.serve.healthcheck, mockservice.serve.fan_out, mockservice.serve.injector, \
        mockservice.serve.telemetry.exposition, mockservice.serve.telemetry.session, \
        mockservice.serve.telemetry.tracing, mockservice.probe.run'

# The software bill of materials (SBOM).
COPY .ci/sbom.py ./
RUN mkdir -p /opt/venv/share/sbom \
 && /opt/build/bin/python sbom.py /opt/venv/bin/python report.json \
        > /opt/venv/share/sbom/mockservice.cdx.json


FROM ${BASE_IMAGE}

ARG BASE_IMAGE
LABEL org.opencontainers.image.title="mockservice" \
      org.opencontainers.image.description="The mock hop that people chain together to see traffic lanes work." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

COPY --from=build /opt/venv /opt/venv
ENV PYTHONPYCACHEPREFIX=/opt/venv/pycache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["/opt/venv/bin/python", "-m", "mockservice.serve.healthcheck"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "mockservice"]
