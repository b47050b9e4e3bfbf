"""Search for a schedule with MetaSchedule, building and timing the candidates in this process.

TVM's own builder and runner start processes that import tvm again, which takes many times as long as 16 candidates of
one layer. A candidate that crashes ends the worker here, and that is reported.
"""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backends.tvm.api import Api
from backends.tvm.intrinsics import import_intrinsics
from neverslower.problem.subject import Search

METHOD = "evolutionary, random cost model by the seed"
"""How candidates are chosen; part of the key by which a search is kept."""
POPULATION = 64
EXPLORED = 0.2
"""The share of each generation that is drawn afresh."""
REPEATS, SHORTEST = 3, 20
"""How often a candidate is timed, and for how many milliseconds each."""


def search(api: Api, wanted: Search, folder: Path) -> list[str]:
    """Search, and leave the database's two files in `folder`; return a line of why each failed candidate did."""
    with tempfile.TemporaryDirectory() as logs:
        return _search(api, wanted, folder, logs)


def _search(api: Api, wanted: Search, folder: Path, logs: str) -> list[str]:
    import_intrinsics()
    schedule = api.meta_schedule
    logging.getLogger("tvm.s_tir.meta_schedule").setLevel(logging.ERROR)
    tasks = schedule.relax_integration.extract_tasks(api.loops(wanted.problem), api.target, params={})
    contexts, weights = schedule.relax_integration.extracted_tasks_to_tune_contexts(
        tasks,
        work_dir=logs,
        strategy=schedule.search_strategy.EvolutionarySearch(
            population_size=POPULATION,
            init_measured_ratio=EXPLORED,
            init_min_unmeasured=min(16, wanted.trials),
            max_fail_count=5,
            genetic_num_iters=2,
        ),
        seed=wanted.seed,
        num_threads=1,  # More threads share the random numbers in an order that differs from run to run.
    )
    built: dict[str, Any] = {}
    failed: list[str] = []
    schedule.tune_tasks(
        tasks=contexts,
        task_weights=weights,
        work_dir=logs,
        max_trials_global=wanted.trials,
        max_trials_per_task=wanted.trials,
        num_trials_per_iter=wanted.trials,
        builder=_builder(api, built, failed),
        runner=_runner(api, built, failed),
        database=schedule.database.JSONDatabase(work_dir=str(folder)),
        cost_model=schedule.cost_model.RandomModel(seed=wanted.seed),  # "random" is seeded by the clock.
        measure_callbacks=[schedule.measure_callback.AddToDatabase()],
    )
    return failed


def _builder(api: Api, built: dict[str, Any], failed: list[str]) -> Any:
    """Return a MetaSchedule builder that compiles in this process and leaves the modules in `built` by number."""
    schedule = api.meta_schedule
    rewrite = __import__("tvm.s_tir.transform", fromlist=["transform"]).RemoveWeightLayoutRewriteBlock

    def compiled(candidate: Any) -> Any:
        with candidate.target:  # NVRTC is given its architecture.
            return api.tvm.compile(rewrite(skip_tensor_rewrite=True)(candidate.mod), target=candidate.target).mod

    @api.derived_object
    class Builder(schedule.builder.PyBuilder):  # type: ignore[misc, name-defined]
        def build(self, build_inputs: Any) -> list[Any]:
            with api.together([partial(compiled, candidate) for candidate in build_inputs]):
                return [self._built(candidate) for candidate in build_inputs]

        def _built(self, candidate: Any) -> Any:
            name = str(len(built))
            try:
                built[name] = compiled(candidate)
            except Exception as error:  # noqa: BLE001  A candidate that can't be built is a failed trial.
                failed.append(api.words(error))
                return schedule.builder.BuilderResult(None, str(error))
            return schedule.builder.BuilderResult(name, None)

    return Builder()


def _runner(api: Api, built: dict[str, Any], failed: list[str]) -> Any:
    """Return a MetaSchedule runner that times the modules in `built` in this process, one after another."""
    schedule = api.meta_schedule

    @api.derived_object
    class Runner(schedule.runner.PyRunner):  # type: ignore[misc, name-defined]
        def run(self, runner_inputs: Any) -> list[Any]:
            with api.alone():
                return [_done(schedule, *self._timed(candidate)) for candidate in runner_inputs]

        def _timed(self, candidate: Any) -> tuple[list[float] | None, str | None]:
            try:
                module = built.pop(str(candidate.artifact_path))
                arguments = [_filled(api, info) for info in candidate.args_info]
                timer = module.time_evaluator("main", api.device, number=1, repeat=REPEATS, min_repeat_ms=SHORTEST)
                return [float(seconds) for seconds in timer(*arguments).results], None
            except Exception as error:  # noqa: BLE001  A candidate that can't run is a failed trial.
                failed.append(api.words(error))
                return None, str(error)

    return Runner()


def _done(schedule: Any, seconds: list[float] | None, error: str | None) -> Any:
    """Return a runner's result of a candidate, which is done already."""
    result = schedule.runner.RunnerResult(seconds, error)
    return schedule.runner.RunnerFuture(lambda: True, lambda: result)


def _filled(api: Api, info: Any) -> Any:
    """Return a tensor of ones for an argument; zeros and denormals could take another time."""
    return api.tvm.runtime.tensor(np.ones([int(size) for size in info.shape], dtype=str(info.dtype)), api.device)
