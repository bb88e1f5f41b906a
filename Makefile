# Every target first installs what it needs and the machine lacks (see setup.sh), so that a fresh
# machine needs one command. ARGS is passed on: make test ARGS="-k lease"

.DEFAULT_GOAL := help
.PHONY: help run test check page format bench lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/make \1\t/p' $(MAKEFILE_LIST)

run:  ## start everything, in the foreground; Ctrl-C stops it
	@./setup.sh run
	@.venv/bin/taskbus up $(ARGS)

# A file's tests stay together, as they share what they have started.
PYTEST = .venv/bin/pytest -n 3 --dist loadfile $(ARGS)

test:  ## run the tests
	@./setup.sh test
	@$(PYTEST)

check:  ## run every check: format, lint, types, layers, tests
	@./setup.sh test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy $(wildcard src workers tests bench)
	.venv/bin/lint-imports
	$(PYTEST)

page:  ## build the page that the router serves, from page/ into crossbar/web
	@./setup.sh test
	PATH=$$PWD/.venv/bin:$$PATH npm run build -w page

format:  ## format the code, and repair what the linter can
	@./setup.sh test
	.venv/bin/ruff check --fix --exit-zero .
	.venv/bin/ruff format .

bench:  ## measure, beside other job queues
	@./setup.sh bench
	@.venv/bin/python -m bench.scale
	@.venv/bin/python -m bench.stores
	@.venv/bin/python -m bench.doors
	@.venv/bin/python -m bench.callee
	@.venv/bin/python -m bench.followers
	@.venv/bin/python -m bench.webhooks
	@.venv/bin/python -m bench.php
	@.venv/bin/python -m bench $(ARGS)

# For the oldest Python supported. The existing pins stay unless ARGS=--upgrade.
LOCK = .venv/bin/uv pip compile --system-certs --quiet --python-version 3.11 \
	--custom-compile-command "make lock" $(ARGS)

lock:  ## write requirements/*.txt and package-lock.json anew (ARGS=--upgrade for newer versions)
	@./setup.sh test
	$(LOCK) pyproject.toml -o requirements/taskbus.txt
	$(LOCK) pyproject.toml --group dev -c requirements/taskbus.txt -o requirements/dev.txt
	$(LOCK) --group router --no-emit-package bjdata -o requirements/router.txt
	PATH=$$PWD/.venv/bin:$$PATH npm $(if $(ARGS),update,install) --package-lock-only

clean:  ## remove the environments and caches; var, the data, stays
	rm -rf .venv .venv-router .venv-bench node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
