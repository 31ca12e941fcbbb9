# The image of a gateway: a small server and what a model is loaded with; neither Airflow nor MLflow.
FROM python:3.12.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DO_NOT_TRACK=1 \
    OMP_NUM_THREADS=1 \
    PYTHONPATH=/opt/gateway:/opt/gateway/plugins

WORKDIR /opt/gateway

# The packages change seldom and the code often: two layers. Every package is checked
# against its hash. The lock is whole: without --no-deps pip refuses a dependency whose extra the lock does not repeat.
COPY requirements-gateway.lock ./
RUN pip install --require-hashes --no-deps --only-binary :all: --requirement requirements-gateway.lock

# The declarations, contracts and feature functions of the project are what requests are held to.
COPY plugins/airflow_mlops ./plugins/airflow_mlops
COPY include ./include
RUN python -m compileall -q plugins include \
    && useradd --uid 50001 --no-create-home --home-dir /opt/gateway gateway \
    && mkdir -p state log \
    && chown -R gateway state log

USER 50001
EXPOSE 8600
# Who serves what: docker run … gateway.Dockerfile MODEL. Tokens come as files or from the environment.
ENTRYPOINT ["python", "-m", "airflow_mlops.gateway", "--host", "0.0.0.0", "--state-dir", "/opt/gateway/state", "--log-dir", "/opt/gateway/log"]
