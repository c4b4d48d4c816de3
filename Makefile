PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Hundreds of processes start from here, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-fast programs lint demo bench bench-full prove prove-full clean help

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: $(VENV)/.installed  ## Set everything up, start both services, print their address; Ctrl-C stops them
	@$(BIN)/python -m deploy.run

test: programs $(VENV)/.installed-dev lint  ## Set everything up and run every check
	-@$(BIN)/python -m deploy.web_assets
	@$(BIN)/python -m pytest $(TOGETHER) || \
		{ [ $$? = 1 ] && echo "Once more alone, what failed beside others:" && \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none; }

test-fast: $(VENV)/.installed-dev  ## Run the unit and contract tests that are quick, for daily work
	@$(BIN)/python -m pytest $(TOGETHER) -m "not slow and not processes and not e2e"

TOGETHER := --numprocesses auto --maxprocesses 6 --dist loadfile --no-loadscope-reorder

# program:package
PROGRAMS := chromium:chromium chromedriver:chromium-driver npm:npm Xvfb:xvfb xdotool:xdotool haproxy:haproxy \
	faketime:faketime

programs:
	@missing=; PATH=$$PATH:/usr/sbin; for pair in $(PROGRAMS); do \
		command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "Some tests need programs that are missing; on Debian: apt-get install$$missing" >&2; exit 1; \
	fi; \
	echo "Installing$$missing ..."; apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $$missing >/dev/null

lint: $(VENV)/.installed-dev  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/.installed  ## Enrol and recognise sample photos with throw-away data, and draw the result
	@$(BIN)/python -m deploy.demo

bench: $(VENV)/.installed-dev  ## Measure everything; the report is saved as build/bench/report.md
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/.installed-dev  ## The same with the long measurements
	$(BIN)/python -m benchmarks --full

prove: programs $(VENV)/.installed-dev  ## Try every promise on real processes, ten minutes; the report is saved as build/prove/report.md
	$(BIN)/python -m benchmarks.prove

prove-full: programs $(VENV)/.installed-dev  ## The same for hours
	$(BIN)/python -m benchmarks.prove --full

clean:  ## Remove the environment and caches (weights and data stay)
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with PYTHON=")'
	@$(PYTHON) -m venv $(VENV) || { echo "Cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created requirements.txt
	@echo "Installing requirements.txt ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-tensorflow.txt requirements-pytorch.txt requirements-approximate.txt requirements-postgres.txt requirements-milvus.txt requirements-dev.txt
	@echo "Installing requirements-dev.txt ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@
