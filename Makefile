# install · run · schedule · test · check · compare · folds · tune · wheel · reference · kiosk · photographs · bench · bench-pipeline · bench-training · bench-runtime · bench-service · bench-kiosk · lock: short, and the same commands that .ci/run calls.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Telemetry of every tool is off, also before any of our code is loaded.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export ORT_DISABLE_TELEMETRY := 1

NORMALISED = python -m tasks.writer "make $@" dvc repro --quiet normalise # the stages that experiments begin with

.DEFAULT_GOAL := help
.PHONY: help install run schedule test check compare folds tune wheel reference kiosk photographs bench bench-pipeline bench-training bench-runtime bench-service bench-kiosk lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(VENV)/.installed ## the environment alone, in .venv

run: $(VENV)/.installed ## nothing → checked, exported model and report; unchanged stages are skipped
	@python -m flows.training

schedule: $(VENV)/.installed ## retrain each night: server, pool, worker and deployments on this machine, until Ctrl-C (docs/scheduling.md)
	@exec python -m flows.schedule

test: $(VENV)/.installed check ## lint, types and all tests
	@python -m pytest -n logical --dist loadfile

check: $(VENV)/.installed ## lint and types
	@ruff format --check .
	@ruff check .
	@mypy

compare: $(VENV)/.installed ## train every recipe alike → data/experiments/comparison/index.html (hours; QUICK=--quick: minutes; RECIPES=swift SEEDS=5)
	@$(NORMALISED)
	@python -m flows.comparison $(RECIPES) $(if $(SEEDS),--seeds $(SEEDS)) $(QUICK)

folds: $(VENV)/.installed ## cross-validate: make folds RECIPES="swift baseline" → data/experiments/cross-validation/index.html
	@$(NORMALISED)
	@python -m flows.cross_validation $(RECIPES) $(QUICK)

tune: $(VENV)/.installed ## search for better numbers: make tune RECIPE=tuned_two_conv [TRIALS=30] [WRITE=name of the winner's recipe]
	@$(NORMALISED)
	@python -m flows.tuning $(RECIPE) $(if $(TRIALS),--trials $(TRIALS)) $(if $(WRITE),--write $(WRITE)) $(QUICK)

wheel: BUNDLE ?= $(firstword $(wildcard exports/releases/live/bundle) exports/bundle)
wheel: $(VENV)/.installed ## the runtime with the bundle in it: the release that is live, else the newest export → dist/seamline-*.whl
	@python -m seamline verify $(BUNDLE)
	@rm -rf seamline/shipped && cp -r $(BUNDLE) seamline/shipped
	@uv build --quiet --offline --wheel --no-build-isolation --out-dir dist . ; status=$$?; rm -rf seamline/shipped; exit $$status
	@ls -l dist/*.whl

reference: $(VENV)/.installed ## keep the exported bundle in git, for clones that have not trained → seamline/reference
	@python -m seamline verify exports/bundle
	@rm -rf seamline/reference && cp -r exports/bundle seamline/reference

kiosk: kiosk/vendor/ort-wasm-simd-threaded.wasm ## what the page needs beside its own files: onnxruntime-web (npm), samples; then: seamline kiosk

kiosk/vendor/ort-wasm-simd-threaded.wasm: kiosk/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not installed. Debian: apt-get install npm"; exit 1; }
	@cd kiosk && npm ci --silent --ignore-scripts --no-audit --no-fund
	@mkdir -p kiosk/samples kiosk/vendor && cp examples/*.png kiosk/samples/
	@cp kiosk/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs kiosk/vendor/
	@cp kiosk/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm $@.part && mv $@.part $@
	@rm -rf kiosk/node_modules

bench: SOAK = 905
bench: CAPTURES = 10000
bench: bench-pipeline bench-training bench-runtime bench-service bench-kiosk ## measure what the README claims: all of these and the service's hour, three hours
	@python -m benchmarks.slow
	@python -m benchmarks.hour

bench-pipeline: $(VENV)/.installed ## fresh clone to a model, and what each stage takes → benchmarks/results.md (twenty minutes)
	@python -m benchmarks.pipeline

photographs: $(VENV)/.installed ## how many photographs are named right: make photographs PHOTOGRAPHS=DIR → data/photographs.html
	@python -m benchmarks.photographs $(PHOTOGRAPHS)

bench-training: $(VENV)/.installed ## time swift against plain Keras, PyTorch and the published recipes → benchmarks/training.md (half an hour)
	@$(NORMALISED)
	@[ -x .venv-torch/bin/python ] || { $(PYTHON) -m venv .venv-torch && .venv-torch/bin/pip install --quiet torch==2.13.0 numpy; } \
		|| { rm -rf .venv-torch; echo "PyTorch could not be installed: it is left out."; }
	@python -m benchmarks.training

bench-runtime: wheel ## time what ships: latency beside other runtimes, start, memory, wheel → benchmarks/runtime.md (MODELS="…": beside it)
	@[ -x .venv-runtimes/bin/python ] || { $(PYTHON) -m venv .venv-runtimes && .venv-runtimes/bin/pip install --quiet \
		onnxruntime==1.31.1 openvino==2026.4.1 ai-edge-litert==2.3.0 numpy==2.4.6; } \
		|| { rm -rf .venv-runtimes; echo "OpenVINO and LiteRT could not be installed: they are left out."; }
	@python -m benchmarks.runtime $(MODELS)

bench-service: $(VENV)/.installed ## the service under load beside a plain one → benchmarks/service.md (SECONDS_EACH=10 for each rate; SOAK=600)
	@python -m benchmarks.service --seconds $(or $(SECONDS_EACH),10) --soak $(or $(SOAK),0)

bench-kiosk: $(VENV)/.installed kiosk ## the page in Chromium: answers, memory → benchmarks/kiosk.md (CAPTURES=10000, 20 min; PHOTOGRAPHS=DIR)
	@python -m benchmarks.kiosk --captures $(or $(CAPTURES),1000) $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))

lock: $(VENV)/.installed ## pin every dependency again, with hashes and without addresses
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header pyproject.toml --group dev -o requirements.lock

clean: ## remove the environment; data, models and DVC's cache stay
	rm -rf $(VENV)

# Safe to interrupt: the mark is written last, and every step may be repeated.
$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Seamline needs Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Install Python's venv module (Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV): 2.5 GB, half a minute or more …"
	@awk '/^uv==/ {p=1} p {print} p && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock
	@uv pip sync --quiet --compile-bytecode --require-hashes --python $(VENV)/bin/python requirements.lock
	@[ -n "$$PREFECT_API_URL" ] || { echo "Making the database that Prefect keeps its runs in …"; \
		prefect --no-prompt server database upgrade --yes >/dev/null || echo "Not made: the first run will try again."; }
	@touch $@
