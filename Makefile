# Set-up and the common commands.  Each target installs what it needs into .venv/.

PYTHON ?= python3
BIN := .venv/bin
CORES ?= all
# TRAP² beside the post-hoc defenses of the paper; CHECKPOINTS=released trains nothing.
CHECKPOINTS ?= train
# Each job is announced by its message; why it runs is what `snakemake -n` says.
# What is made from released checkpoints lies apart from what was trained here.
RESULTS = $(if $(filter released,$(CHECKPOINTS)),reproduced,results)
# DVC keeps notes in a folder that all users of a machine share, which not everybody can write.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.dvc/tmp/site
RUN = $(BIN)/snakemake --cores $(CORES) --quiet host reason --rerun-incomplete
EVERYTHING = checkpoints=$(CHECKPOINTS) \
  'protections=[mergelock-adapter,mergelock-refit,params-adapter,params-refit,trap2]'

.PHONY: help env demo reproduce all-artifacts threats siblings report verify test test-slurm benchmark lint clean

help:
	@echo "make demo           run the demo suite on all cores (CORES=2 for two) and say what it shows;"
	@echo "                    a quarter of an hour on two cores"
	@echo "make reproduce      the same artifacts from the released checkpoints, compared with theirs, in"
	@echo "                    reproduced/; three minutes"
	@echo "make all-artifacts  every table and figure of the paper, beside the published numbers; trains"
	@echo "                    more, 25 minutes after make demo; CHECKPOINTS=released trains nothing, 10"
	@echo "make threats        who merges a protected update anyway, and at what price: every attack on every"
	@echo "                    protection of the suite; CHECKPOINTS=released trains nothing, an hour on two cores"
	@echo "make siblings       the tables and figures of the papers of Merge-Lock and MergeGuard, on whole"
	@echo "                    checkpoints; half an hour on two cores from nothing"
	@echo "make report         all of these in one HTML file that opens offline, results/report.html;"
	@echo "                    makes them first"
	@echo "make verify         check every file behind the results against its recorded SHA-256;"
	@echo "                    AGAINST=FILE also against a manifest that was kept elsewhere"
	@echo "make test           run the tests; about 40 minutes on two cores"
	@echo "make test-slurm     run the cluster's tests on a SLURM of one node (installed as root)"
	@echo "make benchmark      time what we do against the plain way of doing it; ALL=1 all of it"
	@echo "make lint           check format, style and types"
	@echo "make env            make the environment .venv/ alone; some gigabytes, once"
	@echo "make clean          delete results and logs; .venv/ and resources/ stay"

env: .venv/installed

.venv/installed: envs/bootstrap.lock envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
	  { echo "$(PYTHON) is too old: Python 3.11.4 or later is needed (make PYTHON=python3.12 …)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r envs/bootstrap.lock
	@echo "Installing the packages of envs/requirements.lock into .venv/: some gigabytes, once"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode \
	  envs/bootstrap.lock envs/requirements.lock
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -m trap2 "$$@"\n' \
	  "$(CURDIR)/workflow/scripts" "$(CURDIR)/$(BIN)/python" > $(BIN)/trap2
	@chmod +x $(BIN)/trap2
	@touch $@

demo: env
	$(RUN)
	@cat results/summary.txt

all-artifacts: env
	$(RUN) all_artifacts --config $(EVERYTHING)

threats: env
	$(RUN) all_threats --config checkpoints=$(CHECKPOINTS)

siblings: env
	$(RUN) all_siblings

report: env
	$(RUN) report_pages --config $(EVERYTHING)
	$(BIN)/snakemake --cores 1 report_pages --report $(RESULTS)/report.html --config $(EVERYTHING)

reproduce: env
	$(BIN)/dvc pull --quiet
	$(RUN) all reproduced/reproduction.md --config checkpoints=released
	@cat reproduced/reproduction.md

verify: env
	$(BIN)/snakemake --cores 1 --quiet all \
	  $(if $(filter released,$(CHECKPOINTS)),--config checkpoints=released) -- verify
	$(if $(AGAINST),$(BIN)/trap2 verify --against $(AGAINST))

# Two of the fast tests at a time; the workflow's use all cores themselves.
test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/fuzz
	$(BIN)/python -m pytest tests/workflow

test-slurm: env
	$(BIN)/python -m pytest tests/slurm -m slurm --durations=0

benchmark: env
	$(BIN)/dvc pull --quiet
	PYTHONPATH=workflow/scripts $(BIN)/python benchmarks/run.py $(if $(ALL),--all)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

clean:
	rm -rf results reproduced logs debug
