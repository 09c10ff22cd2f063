# Two commands, each complete on a machine with Python 3.10 to 3.13: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test peers clean

demo: .venv/.export
	$(BIN)/acl demo -o demo

test: .venv/.dev peers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

.venv/.export: pyproject.toml
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo "Installing about 6 GB into .venv, most of it PyTorch with its CUDA libraries; this takes minutes."
	$(BIN)/pip install --editable '.[export,cpu,serve]'
	touch $@

.venv/.dev: .venv/.export
	$(BIN)/pip install --editable '.[dev]'
	touch $@

# Cameras are tested with real GigE Vision packets, which needs this library, and root for a network of their own; MQTT with
# a real broker; the live page with a real browser.
peers:
	@missing=''; browser=''; \
	ldconfig -p | grep -q 'libaravis-0\.8\.so' || missing="$$missing libaravis-0.8-0"; \
	PATH="$$PATH:/usr/sbin" command -v mosquitto > /dev/null || missing="$$missing mosquitto"; \
	command -v chromium > /dev/null || command -v google-chrome > /dev/null || browser=chromium; \
	if [ -z "$$missing$$browser" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "tests are skipped, each with the reason, where these (and root) are missing:$$missing $$browser"; exit 0; fi; \
	install='apt-get install -qq --no-install-recommends'; export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && { [ -z "$$missing" ] || $$install $$missing; } && { [ -z "$$browser" ] || $$install $$browser || \
		echo 'tests in a browser are skipped: apt-get has no chromium here'; }

clean:
	rm -rf .venv demo
