# Needs Python 3.11 or newer and a package registry; everything else goes into .venv.
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(if $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(p))))
BIN := .venv/bin

.NOTPARALLEL: # two installs into one .venv would meet
.PHONY: help demo test test-lowest test-newest lint docs dist bench model card clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

demo: .venv/.plot ## compare the classifiers on a small problem, and scan edited copies of a recording
	$(BIN)/python benchmarks/balance.py --quick
	$(BIN)/mmestim demo build/demo/voice

test: .venv/.dev ## run the tests and the examples in the docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder

# Apart from .venv, in environments of their own. UV_TORCH_BACKEND=cpu takes builds of torch without CUDA.
test-lowest: ## run the tests with the oldest releases that pyproject.toml admits
	$(call test_with,lowest,--resolution lowest-direct)

test-newest: ## run the tests with the newest releases
	$(call test_with,newest,)

define test_with
	$(PYTHON) -m venv .venv-$(1)
	.venv-$(1)/bin/python -m pip install -qq uv
	.venv-$(1)/bin/uv pip install -q --python .venv-$(1)/bin/python $(2) '.[test]'
	OMP_NUM_THREADS=1 .venv-$(1)/bin/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder
endef

lint: .venv/.dev ## check style, spelling, docstrings and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	@.ci/words $(shell find mmestim tests benchmarks -name '*.py')
	$(BIN)/numpydoc lint $(shell find mmestim -name '*.py')
	$(BIN)/mypy
	$(BIN)/check-manifest --no-build-isolation
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# Pages of the site that are no source.
GENERATED := api architecture.md benchmarks gallery changelog.md contributing.md
# -E: Sphinx does not repeat the warnings of pages that it has read before.
docs: .venv/.dev ## check links, run every block of code and the gallery, and build the site into build/docs
	PYTHONPATH=docs OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -p markdown_blocks README.md CONTRIBUTING.md CHANGELOG.md docs $(addprefix --ignore=docs/,$(GENERATED))
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -E -W --keep-going docs build/docs

dist: .venv/.dev ## build the source distribution and the wheel into dist, and try both
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	.ci/try-dist

bench: .venv/.plot .venv/.bench ## run the benchmarks in full
	$(BIN)/python benchmarks/balance.py
	$(BIN)/python benchmarks/balance.py --profile guidance
	$(BIN)/python benchmarks/balance.py --profile balancers --tune
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/media.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/fuzz_models.py
	$(if $(MMESTIM_DATA),$(BIN)/python benchmarks/voice.py --simulate && $(BIN)/python benchmarks/voice.py --shortcuts && $(BIN)/python benchmarks/voice.py --detect && $(BIN)/python benchmarks/voice.py --field)

# Also needs espeak-ng, flite, festival, festvox-kdlpc16k and festvox-us-slt-hts of Debian.
model: .venv/.model ## train the detector that comes with the package
	$(BIN)/python -m mmestim.voice.pretrained.build "$(MMESTIM_DATA)" --work build/model

card: .venv/.model .venv/.bench ## measure that detector, and write its card
	$(BIN)/python benchmarks/voice.py --field --models pretrained --work build/model
	$(BIN)/python benchmarks/voice.py --detect --models pretrained --work build/model
	$(BIN)/python benchmarks/voice.py --synthesizers --work build/model
	$(BIN)/python benchmarks/voice.py --scan --work build/model
	$(BIN)/python benchmarks/voice.py --card

clean: ## remove what was built and cached, not .venv
	rm -rf build dist *.egg-info .venv-lowest .venv-newest .mypy_cache .pytest_cache .ruff_cache examples/.ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -r {} +

# One stamp per extra. The constraints hold torch to the pinned release.
.venv/.%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the extra $* and what it needs into .venv. The first time, this takes a minute or two."
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/python:
	$(if $(PYTHON),,$(error No Python 3.11 or newer: install one or say PYTHON=/path/to/python))
	$(PYTHON) -m venv .venv
