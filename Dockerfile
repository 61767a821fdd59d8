# syntax=docker/dockerfile:1
# One image for every service: docker build --build-arg SERVICE=executor -t turnout-executor .
# SERVICE is the extra whose libraries are installed; `registry` has what `python -m services migrate` needs, too.
FROM python:3.11-slim

ARG SERVICE
WORKDIR /app
RUN useradd --system --uid 10001 --no-create-home turnout \
    && install -d -o turnout -g turnout -m 0700 /var/lib/turnout /var/lib/turnout/data /var/lib/turnout/artifacts

# Before the code, so that a change of the code does not install anew. A wrong or missing SERVICE fails here.
COPY locks/ locks/
RUN --mount=type=cache,target=/var/cache/pip PIP_CACHE_DIR=/var/cache/pip \
    pip install --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r locks/${SERVICE}.txt

COPY protos/gen/ protos/gen/
COPY kit/ kit/
COPY catalog/ catalog/
COPY completions/ completions/
COPY recommenders/ recommenders/
COPY services/ services/
ENV PYTHONPATH=/app:/app/protos/gen PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The root is read-only when it runs, so what Python would compile at every start is compiled now.
RUN python -m compileall -q -j 0 kit catalog completions recommenders services protos/gen

USER 10001
EXPOSE 7070 8080 9464
# A check costs 0.3 s of processor time, so it is rare once the service is up.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=2s --retries=3 CMD ["python", "-m", "kit.health"]
ENTRYPOINT ["python", "-m", "services"]
