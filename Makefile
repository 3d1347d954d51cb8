# Everything starts from Python 3.11-3.13, make and git; the rest is installed into .venv on first use.
.DEFAULT_GOAL := help
.PHONY: help install demo test slow lowest lint check boards tiny docs site links bench torture clean

PYTHON ?= python3
# Processes of boards and of the site's build; each has one thread.
JOBS ?= 2
# Worker processes of the test run, one more than cores: a third of the time of a test goes into waiting for disks and processes.
WORKERS ?= 3
BIN := .venv/bin
SUPPORTED = $(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("ssl-zoo needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: name another with make PYTHON=python3.12" % v)'
# Bytecode is compiled at install and read at each start: importing Lightning takes half the time with it.
export UV_COMPILE_BYTECODE := 1

help: ## show this page
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.ready ## create .venv and install the library with its development tools

demo: .venv/.demo ## pretrain and transfer on images and text found on this machine, in 2 to 6 minutes
	@$(BIN)/ssl-zoo demo
	@echo "before you type these commands: source .venv/bin/activate"

test: .venv/.ready ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

slow: .venv/.ready ## run the tests that `test` leaves out: those like others there, and each recipe for CIFAR-10 for 200 steps; hours
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow -rA

lowest: .venv-lowest/.ready ## run the tests of hostile files, and a choice of others, with the lowest versions that pyproject.toml allows
	PATH="$(CURDIR)/.venv-lowest/bin:$$PATH" OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS) --dist worksteal $(OLD)

lint: .venv/.ready ## ruff check, ruff format --check, pyright
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

check: test lint ## test, then lint

boards: .venv/.ready ## run a seed of the digits board from nothing, and say which lines of all boards still stand
	rm -rf .cache/boards && mkdir -p .cache/boards/digits
	sed 's/^seeds: .*/seeds: [0]/' benchmarks/leaderboard/digits/board.yaml > .cache/boards/digits/board.yaml
	cp -r benchmarks/leaderboard/digits/recipes .cache/boards/digits/
	OMP_NUM_THREADS=1 timeout 2400 $(BIN)/ssl-zoo leaderboard run .cache/boards/digits jobs=$(JOBS) runs=.cache/boards/runs
	$(BIN)/ssl-zoo leaderboard check .cache/boards/digits strict=true
	$(BIN)/ssl-zoo leaderboard check

tiny: .venv/.ready ## try out on a CPU, small, all that waits for a GPU, in three minutes
	rm -rf .cache/tiny
	$(BIN)/python benchmarks/gpu/all.py --tiny --out .cache/tiny --minutes 60

docs: .venv/.docs ## write docs/architecture.md, docs/objectives, docs/leaderboard and the README's tables, then the site
	$(BIN)/python docs/architecture.py
	$(BIN)/python docs/objectives.py
	$(BIN)/ssl-zoo leaderboard docs
	$(MAKE) site

# A warning fails: a link within the site that leads nowhere, a page in no list, a cell of a tutorial that raises.
SPHINX = OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs $(JOBS) docs

site: .venv/.docs ## build the documentation site into docs/_build/html: runs the tutorials, checks links, runs doctests
	$(SPHINX) docs/_build/html --fresh-env --builder html --doctree-dir docs/_build/doctrees
	$(SPHINX) docs/_build/doctest --builder doctest --doctree-dir docs/_build/doctrees
	$(BIN)/python docs/links.py docs/_build/html

links: .venv/.docs ## ask every address that the site names, elsewhere too: needs the network
	$(SPHINX) docs/_build/linkcheck --builder linkcheck --define nb_execution_mode=off --define suppress_warnings=myst-nb.lexer

bench: .venv/.bench ## time the library against others, in some 34 minutes, and write benchmarks/speed/README.md
	$(BIN)/python benchmarks/speed/run.py --out benchmarks/speed/results --report

# Draw other moments with SEED, fewer with KILLS.
SEED ?= 0
KILLS ?= 100
torture: .venv/.ready ## kill the command at 100 random moments, in under 30 minutes, and say what survived
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/torture.py --kills $(KILLS) --seed $(SEED) --jobs $(JOBS)

clean: ## remove .venv and caches; runs/ stays
	rm -rf .venv .venv-lowest .cache docs/_build .pytest_cache .ruff_cache

# What the demo needs, without a browser and without what checks code; nothing is said of the packages.
.venv/.demo: pyproject.toml requirements.lock
	@echo "make demo: ssl_zoo and the packages that it needs are installed into .venv first, which takes minutes"
	@$(SUPPORTED)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[cpu,pages,tensorboard]'
	@touch $@

.venv/.ready: pyproject.toml requirements.lock
	@$(SUPPORTED)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint requirements.lock --editable . --group dev
	touch .venv/.demo $@

# Old versions warn of newer ones: their warnings are no errors here. What is refused is tried with the newest versions alone.
OLD := -o filterwarnings=default --disable-warnings -k "not cannot_work" tests/test_hostile.py tests/cli/test_cli.py \
	tests/objectives/test_objectives.py tests/data/test_tokenizer.py tests/objectives/test_zoo.py \
	tests/backbones/test_vision_backbones.py tests/backbones/test_hf_backbones.py

.venv-lowest/.ready: .venv/.ready
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	UV_COMPILE_BYTECODE=0 $(BIN)/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct --editable . --group dev
	touch $@

.venv/.docs: .venv/.ready
	$(BIN)/uv pip install --python $(BIN)/python --constraint requirements.lock --editable . --group dev --group docs
	touch $@

.venv/.bench: .venv/.ready
	$(BIN)/uv pip install --python $(BIN)/python --constraint requirements.lock --editable '.[bench]' --group dev
	touch $@
