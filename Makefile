# Two commands matter: `make app` and `make test`. Works with GNU make 3.81 and a POSIX shell, on Linux and macOS.
#   PORT=8502 HOST=127.0.0.1   where the dashboard listens
#   PYTHON=/path/to/python3    which Python builds .venv (3.11 or newer)
#   PIP_ARGS="…"               further arguments for pip, such as another index
SHELL := /bin/sh
PORT := $(or $(PORT),8501)
HOST := $(or $(HOST),127.0.0.1)
PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-input $(PIP_ARGS)
STS := $(PY) -m sts_core
AXE := axe-core-4.14.1
AXE_SHA256 := 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c

# $(call quietly,COMMAND): its output goes to .venv/pip.log, and is shown when it fails.
quietly = $(1) > .venv/pip.log 2>&1 || { code=$$?; tail -n 30 .venv/pip.log >&2; \
	echo 'error: the packages could not be installed (exit '$$code', all of it in .venv/pip.log)' >&2; \
	echo 'hint: see the last lines above; once that is mended, the same command goes on from here' >&2; exit 2; }

# $(call timed,NAME,COMMAND): says what runs and, at the end, how long it took.
timed = @echo '== $(1)'; start=$$(date +%s); $(2); code=$$?; \
	echo "== $(1): $$(( $$(date +%s) - start )) s"; exit $$code

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help app test lint clean browser

help:
	@echo 'make app     set up what is missing and start the dashboard on http://$(HOST):$(PORT)'
	@echo 'make test    set up what is missing, then lint, types, unit, page and browser tests'
	@echo 'make lint    the quick part of it: ruff and mypy'
	@echo 'make clean   remove what was built (.venv and caches of tools; never cache/)'

# `sts app` looks whether the port is free, fetches the embedded bundle when it is not here, and becomes the server.
app: .venv/.ready
	@exec $(STS) app --port '$(PORT)' --host '$(HOST)'

# Two files of tests at a time, which halves the wait, in their own order: files of few long tests would else come last,
# one alone at the end. What is clicked in a browser is timed, and has the machine alone.
test: lint browser
	$(call timed,embedded bundle,$(STS) demo fetch)
	$(call timed,unit and page tests,$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/unit tests/pages)
	$(call timed,browser tests,$(PY) -m pytest tests/browser)

lint: .venv/.dev
	$(call timed,ruff check,$(PY) -m ruff check .)
	$(call timed,ruff format,$(PY) -m ruff format --check .)
	$(call timed,mypy,$(PY) -m mypy)

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d ! -path './cache/*' -prune -exec rm -rf {} +

# ---- set-up: each step leaves a mark, so that it runs again only when what it depends on has changed ----

$(PY):
	@found=; for python in $(if $(PYTHON),'$(PYTHON)',python3.11 python3.12 python3 python3.13 python3.14); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then found=$$python; break; fi; done; \
	if [ -z "$$found" ]; then \
		echo 'error: no Python 3.11 or newer found$(if $(PYTHON), at $(PYTHON))' >&2; \
		echo 'hint: install one (python.org, apt, brew), or name yours: PYTHON=/path/to/python3 make app' >&2; exit 2; fi; \
	"$$found" -m venv --clear .venv || { rm -rf .venv; \
		echo "error: $$found cannot make a virtual environment" >&2; \
		echo 'hint: on Debian and Ubuntu: apt install python3-venv' >&2; exit 2; }

.venv/.ready: $(PY) requirements.txt pyproject.toml
	@echo 'Installing packages into .venv (the first time takes minutes; what pip says is in .venv/pip.log)'
	@$(PY) -m pip --version > /dev/null 2>&1 || $(PY) -m ensurepip > /dev/null
	@$(call quietly,$(PIP) -r requirements.txt -e .)
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.txt
	@$(call quietly,$(PIP) -r requirements-dev.txt)
	@touch $@

# A Chromium that answers: the system's, else its package when we may install it, else Playwright's own.
browser: .venv/.dev .venv/axe/axe.min.js
	@if chromium --version > /dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo 'Installing Chromium from the system'\''s packages'; \
		(apt-get update && apt-get install -y --no-install-recommends chromium) > .venv/apt.log 2>&1 || tail -n 5 .venv/apt.log >&2; fi; \
	if chromium --version > /dev/null 2>&1; then exit 0; fi; \
	echo 'Installing Playwright'\''s own Chromium'; $(PY) -m playwright install chromium

# axe-core judges the accessibility of the pages. Without it the browser tests fail and say so.
.venv/axe/axe.min.js: | .venv/.dev
	@mkdir -p .venv/axe
	@cd .venv/axe && { npm pack --silent axe-core@4.14.1 > /dev/null 2>&1 || ../bin/python -c "from urllib.request import \
	urlretrieve; urlretrieve('https://registry.npmjs.org/axe-core/-/$(AXE).tgz', '$(AXE).tgz')" 2> /dev/null; } \
	&& tar -xzf $(AXE).tgz --strip-components=1 package/axe.min.js \
	&& ../bin/python -c "import hashlib, sys; \
	sys.exit(hashlib.sha256(open('axe.min.js', 'rb').read()).hexdigest() != '$(AXE_SHA256)')" \
	|| { rm -f axe.min.js; echo 'warning: $(AXE) could not be fetched, neither by npm nor from its registry;' \
	'the accessibility tests will fail' >&2; }
