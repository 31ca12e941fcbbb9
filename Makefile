# What people and CI call. Every target creates what it needs; a second call costs nothing.
#
#   make demo      the year 2013 replayed through the whole loop      (KEEP=1 leaves the pages up)
#                  (MODEL=flight_arrival replays the loop of three classes alone)
#   make test      every test but the end-to-end run, suite by suite, with times   (PROCESSES=1 in one process each)
#                  (COVERAGE=1 measures the branches of the core, too)
#   make e2e       one short run with real processes
#   make drill     every write of a loop disturbed, tried again and checked   (EVERY=1 with each fault, and real kills)
#   make feast     the tests of the Feast source, in an environment of its own
#   make spark     the tests of rows on Spark, in an environment of its own   (SPARK_CASES=all with every case of bad input)
#   make step      the tests of a fit where Airflow is not, in an environment of its own
#   make gateway   the tests of a gateway where Airflow is not, in an environment of its own
#   make kserve    the tests of KServe's client against the gateway, in an environment of its own
#   make celery    a loop on two workers without a shared disk, one of them killed, in an environment of its own
#   make images    the steps of each image of docker/, in environments of their own, and the commands that start in them
#   make site      the pages as a site with a search, in build/site; read by a browser
#   make wheel     the tutorial with the wheel alone, a clone without it, and both, in an environment of their own
#   make torch     the example of a network of PyTorch, by pip in an environment of its own; no part of CI
#   make check     format, lint, types, layers, open doors, containers, locks
#   make bench     ours beside its peers, into build/bench.json
#   make sbom      the bills of materials of the package and of the gateway, in build/*.cdx.json
#   make release   wheel, source and bills of materials in build/release, signed: KEY=the file of a private key
#   make docs      write the pages of docs/reference from the code
#   make screenshots   draw the pictures of docs/images that show pages, by the tests that hold them
#   make lock      resolve the hashed requirement files again          (UPGRADE=1 takes newer versions)
#   make env       the environment alone
#   make data      the partitions of the flights alone
#   make clean     remove everything that make made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help env data demo chromium prometheus haproxy java test e2e drill feast spark step gateway kserve celery images wheel site torch check bench sbom release docs screenshots lock clean

# A shell that forbids bytecode makes every process compile every import again: MLflow takes 11 s instead of 3.
unexport PYTHONDONTWRITEBYTECODE
# A caller's environment must not decide what is imported here.
unexport PYTHONPATH
unexport PYTHONHOME
unexport VIRTUAL_ENV
# No library of the stack reports home, and none asks anybody about new versions.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

checksum = $(shell cat $(1) 2>/dev/null | cksum | cut -d' ' -f1)

TOOLS := .venv-tools
UV := $(TOOLS)/bin/uv
VENV := .venv
PYTHON := $(VENV)/bin/python
TOOLS_STAMP := $(TOOLS)/installed-$(call checksum,requirements-tools.lock)
LOCK_STAMP := $(VENV)/installed-$(call checksum,requirements-dev.lock)
# Two stamps: editing a lint rule in pyproject.toml reinstalls one link and not 250 packages.
PROJECT_STAMP := $(VENV)/project-$(call checksum,pyproject.toml)
# Feast holds pandas below 3, so it has its own environment and its own file.
FEAST_VENV := .venv-feast
FEAST_STAMP := $(FEAST_VENV)/installed-$(call checksum,requirements-feast.lock)-$(call checksum,pyproject.toml)
# PySpark is 490 MB with its jars, and Great Expectations imports it wherever it is installed.
SPARK_VENV := .venv-spark
SPARK_STAMP := $(SPARK_VENV)/installed-$(call checksum,requirements-spark.lock)-$(call checksum,pyproject.toml)
# What another interpreter, or the image of a training job, needs for a fit: no Airflow, no MLflow.
STEP_VENV := .venv-step
STEP_STAMP := $(STEP_VENV)/installed-$(call checksum,requirements-step.lock)
# What a gateway needs: no Airflow, no MLflow.
GATEWAY_VENV := .venv-gateway
GATEWAY_STAMP := $(GATEWAY_VENV)/installed-$(call checksum,requirements-gateway.lock)
# KServe's own client, which holds pandas below 3 and psutil below 6.
KSERVE_VENV := .venv-kserve
KSERVE_STAMP := $(KSERVE_VENV)/installed-$(call checksum,requirements-kserve.lock)
# Airflow's executor on Celery, and the Redis that it needs.
CELERY_VENV := .venv-celery
CELERY_STAMP := $(CELERY_VENV)/installed-$(call checksum,requirements-celery.lock)-$(call checksum,pyproject.toml)
# What a person installs: the versions of requirements.lock. The tests build the wheel, and put it in or take it out.
WHEEL_VENV := .venv-wheel
WHEEL_STAMP := $(WHEEL_VENV)/installed-$(call checksum,requirements.lock)
# What makes a site of the pages.
SITE_VENV := .venv-site
SITE_STAMP := $(SITE_VENV)/installed-$(call checksum,requirements-site.lock)
# PyTorch, by pip: uv would take the build for CUDA where pip takes the one for processors.
TORCH_VENV := .venv-torch
TORCH_STAMP := $(TORCH_VENV)/installed-$(call checksum,requirements-torch.in)-$(call checksum,requirements-step.lock)
# Peers of the benchmarks, whose packages and ours exclude each other, or are too many.
MLSERVER_VENV := .venv-mlserver
MLSERVER_STAMP := $(MLSERVER_VENV)/installed-$(call checksum,requirements-mlserver.lock)
NANNYML_VENV := .venv-nannyml
NANNYML_STAMP := $(NANNYML_VENV)/installed-$(call checksum,requirements-nannyml.lock)
# Written again when the script that writes them changes, and when the last attempt broke off.
DATA_STAMP := include/data/.prepared-$(call checksum,include/flights/prepare.py)
TYPED := plugins include dags benchmarks
RESOLVE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header $(if $(UPGRADE),--upgrade)
SUITES := unit integration contracts bad_input loop
# Processes that share the tests of a suite: more than eight would wait for the longest file.
PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((cores < 8 ? cores : 8)))
# Where Airflow, a server or a long history is inside, a file stays whole: what it starts, it starts once.
WHOLE_FILES := integration contracts loop
# Alembic runs these inside a migration; imported by themselves they fail.
MIGRATIONS := plugins/airflow_mlops/core/ledger/migrations
# Examples in docstrings are run with the unit tests, wherever there are some.
DOCTESTED := $(addprefix plugins/airflow_mlops/,core doctor gateway testing/sagemaker_statistics.py ui)
# What make check runs; with COVERAGE=1, as .ci/run calls both, make test leaves it to that.
CHECKED := tests/unit/house tests/unit/docker
# With COVERAGE=1 these suites measure the branches of the core, of which so many percent must be taken. Measuring makes
# the interpreter twice as slow, so the others leave it out: their lines are taken already. Sources and targets are taken
# by their contracts, what several stages do together (replays, trials, thresholds) by integration, the rest by its units.
COVERED := unit integration contracts
BRANCHES := 94
spread = $(if $(filter-out 1,$(PROCESSES)),--numprocesses $(PROCESSES) --dist $(1))

help:
	@sed -n 's/^#   //p' Makefile

$(TOOLS_STAMP): requirements-tools.lock
	@for python in $(BASE_PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	  if "$$python" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "make: airflow-mlops needs Python 3.11, 3.12 or 3.13, and python3 here is" \
	    "'$$(python3 --version 2>&1 || true)'. Install one, or name it: make BASE_PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "==> uv, with $$($$found --version)"; \
	rm -rf $(TOOLS); \
	"$$found" -m venv $(TOOLS) || { \
	  echo "make: $$found has no working venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	$(TOOLS)/bin/python -m pip install --quiet --require-hashes -r requirements-tools.lock
	@touch $@

$(LOCK_STAMP): requirements-dev.lock | $(TOOLS_STAMP)
	@echo "==> environment $(VENV) from requirements-dev.lock"
	@$(PYTHON) -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(VENV)
	@$(UV) pip sync --python $(PYTHON) --require-hashes --compile-bytecode \
	  --build-constraints requirements-dev.lock requirements-dev.lock 2> >(grep -v '^ [+-] ' >&2)
	@rm -f $(VENV)/installed-* $(VENV)/project-*
	@touch $@

$(PROJECT_STAMP): pyproject.toml $(LOCK_STAMP)
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/project-*
	@touch $@

env: $(PROJECT_STAMP)

$(DATA_STAMP): include/flights/prepare.py | $(PROJECT_STAMP)
	@echo "==> the flights of 2013, one file per week"
	@$(PYTHON) -m include.flights.prepare
	@rm -f include/data/.prepared-*
	@touch $@

data: $(DATA_STAMP)

demo: $(PROJECT_STAMP) $(DATA_STAMP)
	@$(PYTHON) -m include.demo $(if $(KEEP),--keep) $(if $(MODEL),--model $(MODEL))

# Pages are tested in a real browser. Without one, and without the right to install it, that test says what to do.
chromium:
	@if command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "==> Chromium, by apt"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	    >/dev/null 2>&1 || echo "make: apt could not install chromium; the tests of pages need it" >&2; \
	fi

# Alert rules are tested by a Prometheus. Without one, and without the right to install it, those tests say what to do.
# The package starts a server of its own, which is of no use here.
prometheus:
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "==> Prometheus, by apt"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus; } \
	    >/dev/null 2>&1 || echo "make: apt could not install prometheus; the tests of alert rules need it" >&2; \
	  if [ -d /run/systemd/system ]; then systemctl disable --now --quiet prometheus || true; fi; \
	fi

# Several gateways are tested behind a HAProxy. Without one, and without the right to install it, that test says what to do.
# The package starts a server of its own, which is of no use here.
haproxy:
	@if command -v haproxy >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "==> HAProxy, by apt"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy; } \
	    >/dev/null 2>&1 || echo "make: apt could not install haproxy; the test of several gateways needs it" >&2; \
	  if [ -d /run/systemd/system ]; then systemctl disable --now --quiet haproxy || true; fi; \
	fi

# Spark runs on Java. Without one, and without the right to install it, its tests say what to do.
java:
	@if [ -n "$${JAVA_HOME:-}" ] || command -v java >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "==> Java, by apt"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless; } \
	    >/dev/null 2>&1 || echo "make: apt could not install default-jre-headless; the tests of Spark need it" >&2; \
	fi

# One pytest per suite: the times are shown apart, and a suite cannot lean on what another imported.
test: $(PROJECT_STAMP) $(DATA_STAMP) chromium prometheus haproxy
	@failed=""; mkdir -p build/coverage; \
	for suite in $(SUITES); do \
	  [ -d "tests/$$suite" ] || continue; \
	  echo "==> tests/$$suite"; started=$$SECONDS; \
	  extra="$(call spread,worksteal)"; \
	  case " $(WHOLE_FILES) " in *" $$suite "*) extra="$(call spread,loadfile --no-loadscope-reorder)";; esac; \
	  if [ "$$suite" = unit ]; then extra="$$extra --doctest-modules $(DOCTESTED) --ignore=$(MIGRATIONS) $(if $(COVERAGE),$(CHECKED:%=--ignore=%))"; fi; \
	  case " $(if $(COVERAGE),$(COVERED)) " in *" $$suite "*) extra="$$extra --cov --cov-branch --cov-report=";; esac; \
	  COVERAGE_FILE="$(CURDIR)/build/coverage/$$suite" $(PYTHON) -m pytest "tests/$$suite" $$extra $(PYTEST) || failed="$$failed $$suite"; \
	  echo "==> tests/$$suite took $$((SECONDS - started)) s"; \
	done; \
	if [ -n "$(COVERAGE)" ]; then \
	  echo "==> branches of the core that $(COVERED) take"; \
	  $(VENV)/bin/coverage combine --quiet --keep --data-file=build/coverage/all $(COVERED:%=build/coverage/%) \
	    && $(VENV)/bin/coverage report --data-file=build/coverage/all --fail-under=$(BRANCHES) || failed="$$failed coverage"; \
	fi; \
	if [ -n "$$failed" ]; then echo "make: failed:$$failed" >&2; exit 1; fi

drill: $(PROJECT_STAMP)
	@$(PYTHON) -m tests.drill$(if $(EVERY),.whole --processes $(PROCESSES))

e2e: $(PROJECT_STAMP) $(DATA_STAMP)
	@$(PYTHON) -m pytest tests/e2e $(PYTEST)

$(FEAST_STAMP): requirements-feast.lock pyproject.toml | $(TOOLS_STAMP)
	@echo "==> environment $(FEAST_VENV) from requirements-feast.lock"
	@$(FEAST_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(FEAST_VENV)
	@$(UV) pip sync --python $(FEAST_VENV)/bin/python --require-hashes --compile-bytecode \
	  --build-constraints requirements-feast.lock requirements-feast.lock 2> >(grep -v '^ [+-] ' >&2)
	@$(UV) pip install --quiet --python $(FEAST_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@rm -f $(FEAST_VENV)/installed-*
	@touch $@

feast: $(FEAST_STAMP)
	@$(FEAST_VENV)/bin/python -m pytest tests/feast $(PYTEST)

$(SPARK_STAMP): requirements-spark.lock pyproject.toml | $(TOOLS_STAMP)
	@echo "==> environment $(SPARK_VENV) from requirements-spark.lock"
	@$(SPARK_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(SPARK_VENV)
	@$(UV) pip sync --python $(SPARK_VENV)/bin/python --require-hashes --compile-bytecode \
	  --build-constraints requirements-spark.lock requirements-spark.lock 2> >(grep -v '^ [+-] ' >&2)
	@$(UV) pip install --quiet --python $(SPARK_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@rm -f $(SPARK_VENV)/installed-*
	@touch $@

spark: $(SPARK_STAMP) $(DATA_STAMP) java
	@$(SPARK_VENV)/bin/python -m pytest tests/spark $(PYTEST)

$(STEP_STAMP): requirements-step.lock | $(TOOLS_STAMP)
	@echo "==> environment $(STEP_VENV) from requirements-step.lock"
	@$(STEP_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(STEP_VENV)
	@$(UV) pip sync --quiet --python $(STEP_VENV)/bin/python --require-hashes --compile-bytecode requirements-step.lock
	@rm -f $(STEP_VENV)/installed-*
	@touch $@

step: $(PROJECT_STAMP) $(STEP_STAMP)
	@$(PYTHON) -m pytest tests/step $(PYTEST)

$(GATEWAY_STAMP): requirements-gateway.lock | $(TOOLS_STAMP)
	@echo "==> environment $(GATEWAY_VENV) from requirements-gateway.lock"
	@$(GATEWAY_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(GATEWAY_VENV)
	@$(UV) pip sync --quiet --python $(GATEWAY_VENV)/bin/python --require-hashes --compile-bytecode requirements-gateway.lock
	@rm -f $(GATEWAY_VENV)/installed-*
	@touch $@

gateway: $(PROJECT_STAMP) $(GATEWAY_STAMP)
	@$(PYTHON) -m pytest tests/gateway_env $(PYTEST)

$(KSERVE_STAMP): requirements-kserve.lock | $(TOOLS_STAMP)
	@echo "==> environment $(KSERVE_VENV) from requirements-kserve.lock"
	@$(KSERVE_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(KSERVE_VENV)
	@$(UV) pip sync --quiet --python $(KSERVE_VENV)/bin/python --require-hashes --compile-bytecode requirements-kserve.lock
	@rm -f $(KSERVE_VENV)/installed-*
	@touch $@

kserve: $(PROJECT_STAMP) $(KSERVE_STAMP)
	@$(PYTHON) -m pytest tests/kserve $(PYTEST)

$(CELERY_STAMP): requirements-celery.lock pyproject.toml | $(TOOLS_STAMP)
	@echo "==> environment $(CELERY_VENV) from requirements-celery.lock"
	@$(CELERY_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(CELERY_VENV)
	@$(UV) pip sync --quiet --python $(CELERY_VENV)/bin/python --require-hashes --compile-bytecode \
	  --build-constraints requirements-celery.lock requirements-celery.lock
	@$(UV) pip install --quiet --python $(CELERY_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@rm -f $(CELERY_VENV)/installed-*
	@touch $@

celery: $(CELERY_STAMP)
	@$(CELERY_VENV)/bin/python -m pytest tests/many_workers $(PYTEST)

images: $(PROJECT_STAMP)
	@$(PYTHON) -m pytest tests/images $(PYTEST)

$(WHEEL_STAMP): requirements.lock | $(TOOLS_STAMP)
	@echo "==> environment $(WHEEL_VENV) from requirements.lock"
	@$(WHEEL_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(WHEEL_VENV)
	@$(UV) pip sync --quiet --python $(WHEEL_VENV)/bin/python --require-hashes --compile-bytecode requirements.lock
	@rm -f $(WHEEL_VENV)/installed-*
	@touch $@

wheel: $(PROJECT_STAMP) $(WHEEL_STAMP)
	@$(PYTHON) -m pytest tests/wheel $(PYTEST)

$(SITE_STAMP): requirements-site.lock | $(TOOLS_STAMP)
	@echo "==> environment $(SITE_VENV) from requirements-site.lock"
	@$(SITE_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(SITE_VENV)
	@$(UV) pip sync --quiet --python $(SITE_VENV)/bin/python --require-hashes --compile-bytecode requirements-site.lock
	@rm -f $(SITE_VENV)/installed-*
	@touch $@

# Every link and anchor must lead somewhere.
site: $(PROJECT_STAMP) $(SITE_STAMP) | chromium
	@mkdir -p build && cp docs/site.yaml build/mkdocs.yaml
	@$(SITE_VENV)/bin/mkdocs build --quiet --strict --config-file build/mkdocs.yaml
	@$(PYTHON) -m pytest tests/site $(PYTEST)
	@echo "read it: python -m http.server --directory build/site"

$(TORCH_STAMP): requirements-torch.in requirements-step.lock | $(TOOLS_STAMP)
	@echo "==> environment $(TORCH_VENV) from requirements-step.lock and requirements-torch.in, by pip"
	@$(TOOLS)/bin/python -m venv --clear $(TORCH_VENV)
	@$(TORCH_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-step.lock
	@$(TORCH_VENV)/bin/python -m pip install --quiet $$(grep -oE '^(onnx|onnxruntime)==[^ ]+' requirements-dev.lock) -r requirements-torch.in
	@touch $@

torch: $(PROJECT_STAMP) $(DATA_STAMP) $(TORCH_STAMP)
	@$(PYTHON) -m pytest tests/torch $(PYTEST)

$(MLSERVER_STAMP): requirements-mlserver.lock | $(TOOLS_STAMP)
	@echo "==> environment $(MLSERVER_VENV) from requirements-mlserver.lock"
	@$(MLSERVER_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(MLSERVER_VENV)
	@$(UV) pip sync --quiet --python $(MLSERVER_VENV)/bin/python --require-hashes --compile-bytecode requirements-mlserver.lock
	@rm -f $(MLSERVER_VENV)/installed-*
	@touch $@

$(NANNYML_STAMP): requirements-nannyml.lock | $(TOOLS_STAMP)
	@echo "==> environment $(NANNYML_VENV) from requirements-nannyml.lock"
	@$(NANNYML_VENV)/bin/python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	  || $(UV) venv --quiet --clear --python $(TOOLS)/bin/python $(NANNYML_VENV)
	@$(UV) pip sync --quiet --python $(NANNYML_VENV)/bin/python --require-hashes --compile-bytecode requirements-nannyml.lock
	@rm -f $(NANNYML_VENV)/installed-*
	@touch $@

# All checks run even where one fails: a person wants the whole list.
check: $(PROJECT_STAMP)
	@failed=""; \
	step() { local name=$$1; shift; echo "==> $$name"; "$$@" || failed="$$failed $$name"; }; \
	step format $(VENV)/bin/ruff format --check --quiet .; \
	step lint $(VENV)/bin/ruff check .; \
	step types $(VENV)/bin/mypy $(TYPED); \
	step layers $(VENV)/bin/lint-imports; \
	step bandit $(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive plugins; \
	step dockerfile $(VENV)/bin/hadolint --config docker/hadolint.yaml docker/Dockerfile docker/gateway.Dockerfile; \
	step compose $(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml; \
	step shell $(VENV)/bin/shellcheck .ci/run; \
	step house $(PYTHON) -m pytest --quiet $(CHECKED); \
	if [ -n "$$failed" ]; then echo "make: failed:$$failed" >&2; exit 1; fi

bench: $(PROJECT_STAMP) $(DATA_STAMP) $(MLSERVER_STAMP) $(NANNYML_STAMP) $(SPARK_STAMP) $(CELERY_STAMP) java
	@$(PYTHON) -m benchmarks

# What is installed with the package, and with a gateway alone. The same locks give the same files.
sbom: $(PROJECT_STAMP)
	@mkdir -p build
	@for lock in requirements requirements-gateway; do $(PYTHON) .ci/sbom.py $$lock.lock build/$$lock.cdx.json; done

docs: $(PROJECT_STAMP)
	@$(PYTHON) docs/reference/generate.py

# The same checkout gives the same files. Who has the public key verifies them; see SECURITY.md.
release: $(PROJECT_STAMP)
	@if [ ! -f "$(KEY)" ]; then \
	  echo "make: no file '$(KEY)' holds the private key that signs; name one: make release KEY=key.pem (P-256, as PEM)" >&2; exit 1; \
	fi
	@rm -rf build/release build/release.sig
	@$(PYTHON) -m hatchling build --directory build/release
	@for lock in requirements requirements-gateway; do $(PYTHON) .ci/sbom.py $$lock.lock build/release/$$lock.cdx.json; done
	@$(PYTHON) -m model_signing sign key build/release --private_key "$(KEY)" --signature build/release.sig
	@ls -l build/release build/release.sig

# The tests write a picture only of a page that shows what it should. What was drawn replaces what stands in the docs.
screenshots: $(PROJECT_STAMP) | chromium
	@rm -rf build/screenshots/docs
	@$(PYTHON) -m pytest tests/loop/test_screenshots.py $(PYTEST)
	@cp build/screenshots/docs/*.png docs/images/

# The development file first: the runtime file is cut from it, so the two never disagree about a version.
# What stands in a file is kept while pyproject.toml still allows it; UPGRADE=1 lets go.
lock: $(TOOLS_STAMP)
	@$(RESOLVE) pyproject.toml --extra postgres --extra amazon --extra gateway --extra onnx --extra demo --extra evidently --extra river \
	  --extra iceberg --extra excel --extra mysql --extra lightgbm --extra xgboost --extra catboost --extra optuna --extra openlineage \
	  --group test --group servers --group doors --group browser --group check --group build --output-file requirements-dev.lock
	@$(RESOLVE) pyproject.toml --extra postgres --extra metrics --constraints requirements-dev.lock --output-file requirements.lock
	@$(RESOLVE) pyproject.toml requirements-workers.in --extra postgres --extra amazon --extra metrics \
	  --constraints requirements-dev.lock --output-file requirements-workers.lock
	@$(RESOLVE) requirements-step.in --constraints requirements-dev.lock --output-file requirements-step.lock
	@$(RESOLVE) requirements-gateway.in --constraints requirements-dev.lock --output-file requirements-gateway.lock
	@for peer in mlserver nannyml; do \
	  $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    requirements-$$peer.in --output-file requirements-$$peer.lock; \
	done
	@$(RESOLVE) pyproject.toml --extra feast --group test --group build --output-file requirements-feast.lock
	@$(RESOLVE) pyproject.toml --extra postgres --extra amazon --extra spark --extra iceberg --group test --group build \
	  --constraints requirements-dev.lock --output-file requirements-spark.lock
	@$(RESOLVE) pyproject.toml requirements-celery.in --extra postgres --extra amazon --extra gateway --extra demo --group test --group build \
	  --constraints requirements-dev.lock --output-file requirements-celery.lock
	@$(RESOLVE) requirements-kserve.in --output-file requirements-kserve.lock
	@$(RESOLVE) requirements-site.in --output-file requirements-site.lock
	@$(RESOLVE) requirements-tools.in --output-file requirements-tools.lock
	@if grep -nE '://|^-|^/| @ ' requirements*.lock; then echo "make: a lock holds an address or a path" >&2; exit 1; fi
	@for python in 3.12 3.13; do \
	  for lock in requirements-dev.lock requirements-feast.lock requirements-spark.lock requirements-step.lock requirements-gateway.lock \
	    requirements-kserve.lock requirements-celery.lock requirements-workers.lock requirements-site.lock; do \
	    $(UV) pip compile --quiet --no-header --python-version $$python $$lock --output-file /dev/null; \
	  done; \
	done
	@wc -l requirements*.lock

clean:
	@rm -rf build dist include/data .venv .venv-feast .venv-spark .venv-step .venv-gateway .venv-kserve .venv-celery .venv-wheel .venv-site .venv-torch .venv-mlserver .venv-nannyml .venv-tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  .coverage htmlcov
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
