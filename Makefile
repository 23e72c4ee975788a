# Two commands start here: `make demo` and `make test`. Each sets everything up first.
VENV := .venv
PEERS := .venv-peers
EXCHANGE := .venv-exchange
FOREIGN := .venv-foreign
DOCS := .venv-docs
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
export RAY_USAGE_STATS_ENABLED := 0
export OMP_WAIT_POLICY := PASSIVE

.PHONY: setup demo test slow check docs pythons validate-assets cluster chaos soak bench bench-exchange foreign gpu-pack clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(STAMP) ## create .venv with pinned packages

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "EmbodiChain needs Python 3.11 or newer, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[all,dev]'
	$(BIN)/pip install -q --no-deps openpi-client==0.1.2 # it pins numpy<2 but works with ours; the server's tests talk through it
	@touch $@

demo: setup ## the main job on this machine: assets, two workers, ring, learner, report; then the policy that ships
	$(BIN)/embodichain run tiny_cpu
	$(BIN)/embodichain eval builtin:turn_switch --episodes 10

test: setup ## the default tests: no GPU, no network
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: setup ## the tests that take longer: a minute of kills, a thousand broken meshes, larger models
	$(BIN)/pytest -m 'slow and not gpu and not cluster' -n 2 --dist worksteal --timeout 900
	$(BIN)/pytest -m 'cluster and not gpu' --timeout 600

check: setup ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/pytest tests/test_architecture.py

docs: setup $(DOCS)/.installed ## the documentation, written to build/site; fails on a link that leads nowhere
	$(BIN)/python docs/site/reference.py
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

cluster: setup ## several Ray nodes on this machine: they come and go, refuse, run out of memory; the last part of `make slow`
	$(BIN)/pytest -m 'cluster and not gpu' --timeout 600

PYTHONS ?= $(shell for v in 3.12 3.13; do for p in python$$v $(HOME)/.pyenv/versions/$$v.*/bin/python; do $$p -c '' 2>/dev/null && echo $$p && break; done; done)
pythons: ## the default tests on every newer Python that is at hand, each in an environment of its own
	@test -n "$(PYTHONS)" || echo "no Python 3.12 or 3.13 here: nothing to do"
	@set -e; for python in $(PYTHONS); do \
	  where=.venv-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); echo "$$python in $$where"; \
	  $(MAKE) --no-print-directory test VENV=$$where PYTHON=$$python; done

validate-assets: setup $(VENV)/.validators ## one asset of every family: as assets/ lists it, and judged by our checks and both public validators
	$(BIN)/embodichain asset build all -o build/catalogue --resume
	@# The last bits of a mesh, and with them its hash, depend on the kind of processor; all else that is listed does not.
	@for file in catalogue.json licences.csv materials.csv categories.csv; do \
	  sed 's/[0-9a-f]\{16\}/hash/' assets/$$file > build/listed; \
	  sed 's/[0-9a-f]\{16\}/hash/' build/catalogue/$$file | diff build/listed - || exit 1; done
	$(BIN)/embodichain asset validate build/catalogue --public
	$(BIN)/pytest tests/assets/test_asset_validators.py

assets-index: setup ## build one asset of every family, and write the index and tables of assets/ again
	$(BIN)/embodichain asset build all -o build/catalogue --resume --no-gallery
	cp build/catalogue/catalogue.json build/catalogue/licences.csv build/catalogue/materials.csv build/catalogue/categories.csv assets/

$(VENV)/.validators: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e '.[all,validate]'
	@touch $@

chaos: setup ## kill and stop workers, take nodes away, and say how long the run takes to recover; fails on anything torn or over K
	nice $(BIN)/python benchmarks/chaos.py --json

KILLS ?= 10000
soak: setup ## kill and stop what a run is made of, then the ring's processes KILLS times; fails on anything torn, over K or lost
	nice $(BIN)/embodichain chaos --minutes 5
	nice $(BIN)/python tests/ring/ring_fuzz.py --seconds 86400 --kills $(KILLS) --every 0.002
	if [ "$$(id -u)" = 0 ]; then nice $(BIN)/python tests/ring/ring_fuzz.py --seconds 86400 --kills $(KILLS) --every 0.002 --containers; fi

bench-peers: setup $(PEERS)/.installed ## the ring against Reverb, TorchRL and Ray's object store: 3 minutes, one JSON line
	$(BIN)/python benchmarks/peers/compare.py

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -r $<
	@touch $@

gpu-pack: setup ## what a bare GPU machine lacks, in two packs; there: bash .gpu/a/run.sh, then .gpu/b/run.sh
	$(BIN)/python benchmarks/gpu_pack.py --warp

bench-exchange: setup $(EXCHANGE)/.installed $(FOREIGN)/.installed ## data sets against lerobot's own writer, Meta-World against itself
	$(BIN)/python benchmarks/exchange.py --json

$(EXCHANGE)/.installed: tests/exchange/requirements.txt
	$(PYTHON) -m venv $(EXCHANGE)
	$(EXCHANGE)/bin/pip install -q -r $<
	$(EXCHANGE)/bin/pip install -q --no-deps lerobot==0.4.4 robomimic==0.3.0 # what they need to read and write data is in the list
	@touch $@

foreign: $(FOREIGN)/.installed ## Meta-World and robosuite in .venv-foreign, and what to export so that runs find them
	@echo "export EMBODICHAIN_FOREIGN='$(CURDIR)/$(FOREIGN)/bin/python'"

$(FOREIGN)/.installed: tests/foreign/requirements.txt
	$(PYTHON) -m venv $(FOREIGN)
	$(FOREIGN)/bin/pip install -q -r $<
	@touch $@

clean: ## remove what setup and runs made
	rm -rf $(VENV) $(PEERS) $(EXCHANGE) $(FOREIGN) $(DOCS) runs build *.egg-info
